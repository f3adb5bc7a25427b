"""From a mapping to a dataclass: every wrong key, type and value, each as one line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from vertebra.config.defaults import REQUIRED, plain
from vertebra.names import did_you_mean

T = TypeVar("T")


def read(owner: type[T], values: Any, path: str, errors: list[str]) -> T | None:
    """Return `values` as an instance of the dataclass `owner`; what is wrong goes to `errors`, and None comes back.

    Types are taken strictly, as JSON has them: true is no number, "3" is a text, and a list fills a tuple. `path` is
    where the values stand in the configuration, as in `trainer`.
    """
    if not isinstance(values, Mapping):
        errors.append(f"{path} must hold settings, as in {path}.NAME=VALUE; got {shown(values)}.")
        return None
    known = [field.name for field in fields(owner) if field.init]  # type: ignore[arg-type]  # a dataclass, by contract
    found = [*unknown_keys(path, values, known), *required_keys(path, values)]
    try:
        document = json.dumps({key: value for key, value in plain(values).items() if key in known})
        value = TypeAdapter(owner).validate_json(document, strict=True)
    except ValidationError as error:
        found += _lines(error, values, path)
    errors.extend(dict.fromkeys(found))
    return None if found else value


def read_field(owner: type, name: str, value: Any, errors: list[str]) -> Any:
    """Return one field's value, checked against the type that the dataclass `owner` gives it."""
    kind = get_type_hints(owner, include_extras=True)[name]
    try:
        return TypeAdapter(kind).validate_json(json.dumps(plain(value)), strict=True)
    except ValidationError as error:
        errors += _lines(error, value, name)
        return None


def unknown_keys(path: str, values: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Return a line for each key that does not exist, with the nearest one and all that do."""
    names = list(known)
    listed = ", ".join(names) or "none"
    return [
        f"{_join(path, key)}: there is no such setting.{did_you_mean(str(key), names)} Known: {listed}."
        for key in values
        if key not in names
    ]


def required_keys(path: str, values: Mapping[str, Any]) -> list[str]:
    """Return a line for each setting that has no default and was not given."""
    return [f"{_join(path, key)} must be given." for key, value in values.items() if value == REQUIRED]


def shown(value: Any) -> str:
    """Return a value as it stands in the configuration: texts in quotes, true, null."""
    return json.dumps(plain(value), ensure_ascii=False)


def _lines(error: ValidationError, values: Any, path: str) -> list[str]:
    """Return one line for each place that is wrong: the alternatives of a union are joined."""
    expected: dict[str, tuple[Any, list[str]]] = {}
    for item in error.errors(include_url=False):
        place, value = _place(item["loc"], values)
        if value != REQUIRED:
            expected.setdefault(_join(path, *place), (value, []))[1].append(_said(item))
    lines = []
    for where, (value, said) in expected.items():
        # What is wrong with several settings together names them itself.
        given = where if where == path and isinstance(value, Mapping) else f"{where}={shown(value)}"
        lines.append(f"{given}: {' or '.join(said).replace(' or must be ', ' or ')}.")
    return lines


def _place(location: Sequence[int | str], values: Any) -> tuple[list[int | str], Any]:
    """Return the part of pydantic's location that is a place in `values`, and what is there."""
    place: list[int | str] = []
    for step in location:
        try:
            values = values[step]
        except (KeyError, IndexError, TypeError):
            break
        place.append(step)
    return place, values


def _said(item: Any) -> str:
    if item["type"] == "missing":
        return f"needs {item['loc'][-1]}"
    if item["type"] == "unexpected_keyword_argument":
        return "there is no such setting"
    message: str = item["msg"]
    return message.replace("Input should be", "must be").removeprefix("Value error, ").rstrip(".")


def _join(*parts: int | str) -> str:
    return ".".join(str(part) for part in parts if part != "")
