"""The arguments of `vertebra train`: flags anywhere on the line, and values that need no quotes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from vertebra.cli.parser import Parser
from vertebra.config.defaults import GROUPS
from vertebra.config.task_list import names_in
from vertebra.errors import PluginError
from vertebra.host.manager import Host

HYDRA_TEXTS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name")
"""Hydra's own settings that hold a path or a name."""
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
QUOTES = ("'", '"')


@dataclass(frozen=True)
class Arguments:
    """What stands on the command line of `vertebra train`; the overrides are ready for Hydra."""

    overrides: list[str]
    help: bool
    multirun: bool
    cfg: str | None
    package: str | None
    resolve: bool
    info: str | None


def parse(argv: Sequence[str], host: Host) -> Arguments:
    """Return the flags and the overrides, wherever they stand; values are quoted as `quoted` says."""
    parser = Parser("vertebra train", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--package", "-p")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--info", "-i", nargs="?", const="all", choices=INFO)
    arguments = vars(parser.parse_intermixed_args(list(argv)))
    if (arguments["package"] or arguments["resolve"]) and not arguments["cfg"]:
        parser.error("--package and --resolve belong to --cfg, as in --cfg job --resolve")
    overrides = quoted(arguments.pop("overrides"), host, multirun=arguments["multirun"])
    return Arguments(overrides, **arguments)


def quoted(overrides: Sequence[str], host: Host, *, multirun: bool = False) -> list[str]:
    """Return the overrides with Hydra's quotes around the values that need them, so that users need none.

    The value of a text setting (`data.path`, `backbone.path`, a task's own texts, `hydra.run.dir` …) is taken as typed,
    commas, brackets and all; only `null`, a value in quotes and `${…}` keep Hydra's meaning. Any other value is quoted
    only where Hydra could not read it. With `multirun`, commas outside quotes and brackets part the values of a sweep,
    so that a text with a comma needs quotes there; `choice(…)`, `range(…)` and Hydra's other sweeps stay as they are.
    """
    names = [override.removeprefix("task=").split(",") for override in overrides if override.startswith("task=")]
    members = [name for override in overrides if override.startswith("tasks=") for name in names_in(override)]
    texts = text_settings(host, [*(name for several in names for name in several), *members])
    # What is of one of several tasks has its name before it.
    texts |= {f"{member}.{name}": is_list for member in members for name, is_list in texts.items()}
    texts |= dict.fromkeys((f"{member}.head_from" for member in members), False)
    return [_quoted(override, texts, multirun) for override in overrides]


def text_settings(host: Host, tasks: Sequence[str]) -> dict[str, bool]:
    """Return the settings that hold texts, as `data.path`, and whether they take a list of texts, too.

    `data.splits.` stands for every key below.
    """
    found = dict.fromkeys(HYDRA_TEXTS, False)
    for group, owner in [*GROUPS.items(), *(("task", owner) for owner in _task_configs(host, tasks))]:
        for name, hint in get_type_hints(owner).items():
            below = "." if get_origin(hint) is dict else ""
            kind = get_args(hint)[1] if below else hint
            if _is_text(kind):
                found[f"{group}.{name}{below}"] = tuple[str, ...] in get_args(kind)
    return found


def _task_configs(host: Host, tasks: Sequence[str]) -> Iterator[type]:
    for task in tasks:
        try:
            owner = host.get("task", task).load_config()
        except PluginError:
            continue  # the composition will say so
        if owner is not None:
            yield owner


def _is_text(kind: Any) -> bool:
    return kind is str or (str in get_args(kind) and set(get_args(kind)) <= {str, NoneType, tuple[str, ...]})


def _quoted(override: str, texts: dict[str, bool], multirun: bool) -> str:
    key, equals, value = override.partition("=")
    name = key.lstrip("+~")
    if not equals or not value or (multirun and _is_sweep_function(value)):
        return override
    takes_list = texts.get(name, texts.get(f"{name.rpartition('.')[0]}."))
    pieces = _split(value) if multirun else [value]
    is_text = [takes_list is not None and not (takes_list and piece.startswith("[")) for piece in pieces]
    written = [_as_text(piece) if text else _as_readable(piece) for piece, text in zip(pieces, is_text, strict=True)]
    return f"{key}={','.join(written)}"


def _as_text(value: str) -> str:
    return value if value.lower() == "null" or _is_quoted(value) else in_quotes(value)


def _as_readable(value: str) -> str:
    return value if value.startswith(("[", "{")) or _parsed(value) is not None else in_quotes(value)


def in_quotes(value: str) -> str:
    """Return the text in Hydra's quotes."""
    return QuotedString(value, Quote.single).with_quotes()


def _is_quoted(value: str) -> bool:
    parsed = _parsed(value) if value.startswith(QUOTES) else None
    return parsed is not None and not parsed.is_sweep_override()


def _is_sweep_function(value: str) -> bool:
    parsed = _parsed(value) if value.endswith(")") else None
    return parsed is not None and parsed.is_sweep_override()


def _parsed(value: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return None


def _split(value: str) -> list[str]:
    """Cut at the commas outside brackets and outside pieces that are in quotes."""
    pieces, depth, quote, before = [""], 0, "", ""
    for letter in value:
        if quote:
            quote = "" if letter == quote and before != "\\" else quote
        elif letter in QUOTES and not pieces[-1]:
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not quote and depth <= 0:
            pieces.append("")
        else:
            pieces[-1] += letter
        before = letter
    return pieces
