"""Composition by Hydra: the choices of a command line become a checked `RunConfig`. Nothing is created on disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vertebra.config.options import find_options, foreign_data, unknown_option
from vertebra.config.resolve import resolve, two_training_files
from vertebra.config.schema import RunConfig
from vertebra.config.session import PRIMARY, hydra_session
from vertebra.errors import ConfigError
from vertebra.host.manager import Host
from vertebra.names import did_you_mean

HYDRA_PLACES = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
"""The settings of Hydra itself that users change: where runs are written."""
_REFUSED = re.compile(r"Could not (?:override|append to config|delete from config)[^']*'([^'=]+)")
_TRAINING_FILE = re.compile(r"\+*data\.splits(\.train=|=\{(.*,)?\s*['\"]?train['\"]?\s*:)")
"""An override by which a user says which file is the training split."""
_RESOLVING = re.compile(r'^\w+ raised while resolving interpolation: "?(.*?)"?$')


@dataclass(frozen=True)
class Composition:
    """A run that may start, and the folder that it will write; neither the folder nor anything else is there yet."""

    config: RunConfig
    folder: Path


def compose(overrides: Sequence[str], host: Host) -> Composition:
    """Return the run of these overrides, as `task=ner` or `trainer.epochs=3`, in Hydra's syntax.

    `ConfigError` lists all that is wrong, a line each.
    """
    with hydra_session(host) as hydra:
        return compose_in(hydra, overrides, host)


def run_folder(node: DictConfig) -> Path:
    """Return the folder of a single run, from Hydra's own node."""
    return folder_of(node.run, "dir")


def compose_in(
    hydra: Any, overrides: Sequence[str], host: Host, folder: Callable[[DictConfig], Path] = run_folder
) -> Composition:
    """Do what `compose` does, in an open Hydra session; `folder` reads the run's folder from Hydra's own node."""
    errors: list[str] = []
    composed = compose_freely(hydra, overrides, host, errors)
    choices = composed.hydra.runtime.choices
    errors += foreign_data(choices.get("task"), choices.get("data"))
    document = document_of(composed, errors)
    if any(_TRAINING_FILE.match(override) for override in overrides):
        errors += two_training_files(document.get("data"), host)
    return Composition(resolve(document, host, errors), folder(composed.hydra))


def compose_freely(hydra: Any, overrides: Sequence[str], host: Host, errors: list[str]) -> DictConfig:
    """Return Hydra's composition, with unknown settings left in it for `resolve` to refuse with all else.

    What Hydra itself refuses goes to `errors` and is left out, so that the rest can be checked; `ConfigError` where
    nothing can be composed.
    """
    choices = forced(hydra, overrides, errors)
    while True:
        try:
            composed = hydra.compose_config(PRIMARY, choices, RunMode.RUN, with_log_configuration=False)
            return cast(DictConfig, composed)
        except (HydraException, OmegaConfBaseException) as error:
            remaining = _without_culprit(error, choices, host, errors)
            if remaining == choices:
                raise ConfigError("\n".join([*errors, one_line(error)])) from None
            choices = remaining


def document_of(composed: DictConfig, errors: Iterable[str] = ()) -> dict[str, Any]:
    """Return what `resolve` takes: plain values without Hydra's own node, interpolations filled in."""
    settings = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    try:
        document: Any = OmegaConf.to_container(settings, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError("\n".join([*errors, one_line(error)])) from None
    return dict(document)


def folder_of(node: Any, key: str) -> Path:
    """Return the folder that Hydra's configuration names there, absolute."""
    try:
        place = str(node[key])
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error)) from None
    if not place:
        raise ConfigError("The run's folder must be given: hydra.run.dir=FOLDER, or of a sweep hydra.sweep.dir=FOLDER.")
    return Path(place).expanduser().resolve()


def unreadable(override: str) -> str:
    """Return the line for an override that breaks Hydra's grammar."""
    return f"'{override}' cannot be read: write KEY=VALUE, with quotes around a value of special characters."


def one_line(error: Exception) -> str:
    """Return the message of one of Hydra's errors in one line, with its cause and without its advertisement."""
    if isinstance(error, OmegaConfBaseException) and error.msg:
        place = f"{error.full_key}: " if error.full_key else ""
        return place + _RESOLVING.sub(r"\1", " ".join(error.msg.split()))
    said = [str(error), *([str(error.__cause__)] if error.__cause__ else [])]
    text = " ".join(line.partition("\nSee https://")[0] for line in said)
    return " ".join(text.replace("\n", "; ").split()).strip("; ")


def forced(hydra: Any, overrides: Sequence[str], errors: list[str]) -> list[str]:
    """Return the overrides that Hydra can read, those of settings so that they pass whether known or not."""
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    groups = set(hydra.config_loader.list_groups(""))
    accepted = []
    for text in overrides:
        try:
            (override,) = parser.parse_overrides([text])
        except HydraException:
            errors.append(unreadable(text))
            continue
        if not override.key_or_group:
            errors.append(unreadable(text))
        elif override.is_sweep_override():
            errors.append(f"{text}: several values need --multirun; a text that holds commas needs quotes.")
        else:
            accepted.append(_option(text, override) if _is_choice(override, groups) else f"++{text.lstrip('+')}")
    return accepted


def _is_choice(override: Override, groups: set[str]) -> bool:
    key = override.key_or_group
    return override.is_delete() or override.is_hydra_override() or "/" in key or key in groups


def _option(text: str, override: Override) -> str:
    """Return the choice of an option with quotes around a name that Hydra would take for a number, null or settings."""
    key, equals, name = text.partition("=")
    if not equals or override.is_hydra_override() or isinstance(override.value(), str | list | QuotedString):
        return text
    return f"{key}={QuotedString(name, Quote.single).with_quotes()}"


def _without_culprit(error: Exception, choices: list[str], host: Host, errors: list[str]) -> list[str]:
    """Return the choices without the one that Hydra refused, which goes to `errors`; all if that is unclear."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        for choice in choices:
            group, _, name = choice.replace("'", "").partition("=")
            if f"{group}/{name}" != error.missing_cfg_file:
                continue
            remaining = [other for other in choices if other != choice]
            if group == "task":  # `resolve` says what it knows of that task
                return [*remaining, f"++task.name='{name}'"]
            errors.append(unknown_option(group, name, find_options(host).get(group, error.options or ())))
            return remaining
    if str(error).startswith("Could not override 'data'"):  # for want of a task, which `resolve` will miss
        return [choice for choice in choices if not choice.startswith("data=")]
    refused = _REFUSED.match(str(error))
    if refused is None:
        return choices
    key = refused[1]
    errors.append(f"{key}: there is no such setting.{did_you_mean(key, HYDRA_PLACES)}")
    return [choice for choice in choices if choice.lstrip("+~").partition("=")[0] != key]
