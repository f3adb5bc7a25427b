"""Rows in a task's own terms: columns by the task's names, values of the task's types."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from vertebra.config.schema import DataConfig
from vertebra.data.files import listed
from vertebra.data.formats import Row, has_no_names, numbered
from vertebra.errors import DataError
from vertebra.names import did_you_mean, unknown

ID = "id"


class MissingColumnError(DataError):
    """A row lacks a column that the task needs: what is there, and the setting that would name the right one."""

    def __init__(self, found: str, setting: str) -> None:
        super().__init__(f"{found} {setting}")
        self.found = found


def check_mapping(data: DataConfig, known: Collection[str]) -> None:
    """Raise `DataError` for a `data.columns` entry that is no column of the task, or numbers beside names."""
    for column in data.columns:
        if column not in known and column != ID:
            raise DataError(f"data.columns: {unknown('column of the task', column, known)}")
    if len({type(source) for source in data.columns.values()}) > 1:
        raise DataError("data.columns: give all columns by name, or all by number (for a file without a header).")


def take(row: Row, types: Mapping[str, type], data: DataConfig, *, only: Collection[str] | None = None) -> Row:
    """Return the task's columns of a row that was read, or those of them named in `only`.

    Raises `MissingColumnError` where one is not there, and `DataError` where a value is not of the declared type.
    """
    keys = find_columns(row, types, data, only=only)
    taken = {column: _convert(row[key], types[column], column) for column, key in keys.items()}
    if has_no_names(row):
        _refuse_empty_cells(taken)
    return taken


def _refuse_empty_cells(row: Row) -> None:
    """Raise `DataError` where a line of a file of columns has nothing in a column that is read."""
    for column, values in row.items():
        if isinstance(values, list) and "" in values:
            raise DataError(f"line {values.index('') + 1} of this sentence has nothing in column '{column}'.")


def find_columns(
    row: Row, types: Mapping[str, type], data: DataConfig, *, only: Collection[str] | None = None
) -> dict[str, str]:
    """Return the key of the row behind each of the task's columns; `MissingColumnError` where one is not there."""
    sources = _sources(row, list(types), data)
    found: dict[str, str] = {}
    for column in types if only is None else only:
        source = sources.get(column)
        if source is None or source not in row:
            raise _missing(row, column, source, data)
        found[column] = source
    return found


def own_id(row: Row, data: DataConfig) -> Any:
    """Return the value of the data's own id column, or None where it has none."""
    source = data.columns.get(ID, ID)
    if by_place(row, data):
        return None
    key = _key(source, list(row))
    if key not in row and ID in data.columns:
        raise _missing(row, ID, key, data)
    return row.get(key) if key is not None else None


def by_place(row: Row, data: DataConfig) -> bool:
    """Whether a row's columns have no names and no numbers are given for them, so that their places must say it all.

    The task's columns are then the file's first ones, and its last is the file's last.
    """
    return has_no_names(row) and not numbered(data)


def _sources(row: Row, columns: list[str], data: DataConfig) -> dict[str, str | None]:
    """Return the key of the row behind each of the task's columns."""
    keys = list(row)
    mapping: dict[str, str | int] = data.columns
    if by_place(row, data):
        mapping = {column: place for place, column in enumerate(columns)}
        if 1 < len(columns) <= len(keys):
            mapping[columns[-1]] = -1
    return {column: _key(mapping.get(column, column), keys) for column in columns}


def _key(source: str | int, keys: list[str]) -> str | None:
    if isinstance(source, str):
        return source
    return keys[source] if -len(keys) <= source < len(keys) else None


def _missing(row: Row, column: str, source: str | None, data: DataConfig) -> MissingColumnError:
    if has_no_names(row):
        wanted = f"number {data.columns[column]}" if numbered(data) and column in data.columns else f"for '{column}'"
        there = f"there are {len(row)}, numbered" if len(row) > 1 else "there is 1, numbered"
        return MissingColumnError(f"no column {wanted}: {there} from 0.", f"Set data.columns.{column}=NUMBER.")
    name = source or column
    hint = f"Set data.columns.{column}=NAME; for a file without a header data.columns.{column}=NUMBER."
    return MissingColumnError(f"no column '{name}'.{did_you_mean(name, row)} There are: {listed(list(row))}.", hint)


# --- types


def _convert(value: Any, wanted: type, column: str) -> Any:
    if value is None:
        raise DataError(f"column '{column}' is empty.")
    try:
        return _CONVERTERS.get(wanted, _as_is(wanted))(value)
    except (ValueError, TypeError, LookupError, OverflowError):
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}…"
        raise DataError(f"column '{column}' must be {_WORDS.get(wanted, wanted.__name__)}, not {shown}.") from None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):  # labels are often written as numbers
        return str(value)
    raise ValueError


def _integer(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise ValueError
    return float(value)


def _truth(value: Any) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]


def _list(value: Any) -> list[Any]:
    if isinstance(value, (str, bytes, Mapping)):
        raise ValueError
    return list(value)


def _as_is(wanted: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, wanted):
            raise ValueError
        return value

    return check


_CONVERTERS: dict[type, Callable[[Any], Any]] = {
    str: _text,
    int: _integer,
    float: _number,
    bool: _truth,
    list: _list,
}
_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
