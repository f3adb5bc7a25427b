"""`vertebra doctor`: what Vertebra finds on this machine, and what does not work there as it could."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vertebra.cli.parser import Parser
from vertebra.cli.plugins import STYLES, as_document
from vertebra.host.manager import Host, create_host


def main(argv: Sequence[str]) -> int:
    """Run `vertebra doctor` with these arguments."""
    arguments = parser().parse_args(list(argv))
    host = create_host()
    found = examine(host, arguments.backbone)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        show(found, Console(highlight=False))
    return 0


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="vertebra doctor",
        description="Show versions, devices, which fast paths a run would take here and why not the others, plugins, caches, "
        "and whether the Hub answers.",
        epilog="Example: vertebra doctor --backbone my/model --json. What is said here of a slow run belongs into a report.",
    )
    parser.add_argument("--backbone", metavar="MODEL", help="a model folder or Hub name to try (default: nano)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def examine(host: Host, backbone: str | None = None) -> dict[str, Any]:
    """Return all that the command shows, as JSON can hold it."""
    from vertebra.runs.environment import describe_environment

    return {
        "environment": describe_environment(),
        "backbone": backbone or "nano",
        **fast_paths(host, backbone),
        **as_document(host),
        "caches": caches(),
        "hub": hub(),
    }


def fast_paths(host: Host, backbone: str | None) -> dict[str, Any]:
    """Return the fast paths; where the backbone cannot be loaded, those that need none, and why."""
    from vertebra.config.schema import BackboneConfig
    from vertebra.engine.fast_paths import find_fast_paths
    from vertebra.errors import VertebraError

    config = BackboneConfig() if backbone is None else BackboneConfig(name="hf", path=str(Path(backbone).expanduser()))
    found: list[dict[str, Any]] = []
    try:
        for path in find_fast_paths(config, host):
            found.append({"name": path.name, "on": path.on, "reason": path.reason})
    except VertebraError as error:
        return {"fast_paths": found, "backbone_error": str(error)}
    return {"fast_paths": found, "backbone_error": None}


def caches() -> dict[str, Any]:
    """Return where the caches are, and what each kind holds."""
    from vertebra.data.entries import cache_root
    from vertebra.data.kept import list_kept

    kinds = {kind: list(some) for kind, some in groupby(list_kept(), key=lambda one: one.kind)}
    return {
        "folder": str(cache_root()),
        "kinds": {kind: {"entries": len(some), "bytes": sum(one.size for one in some)} for kind, some in kinds.items()},
    }


def hub() -> dict[str, Any]:
    """Return whether the Hub answers, and why it may not."""
    from huggingface_hub import constants

    from vertebra.hub import SECONDS, hub_answers

    if constants.HF_HUB_OFFLINE:
        said = "not asked, because HF_HUB_OFFLINE is set: models and data come from this machine alone"
        return {"endpoint": constants.ENDPOINT, "answers": None, "said": said}
    answers = hub_answers()
    said = (
        "it answers" if answers else f"no answer within {SECONDS:.0f} seconds: models and data must be on this machine"
    )
    return {"endpoint": constants.ENDPOINT, "answers": answers, "said": said}


def show(found: Mapping[str, Any], console: Console) -> None:
    """Print what was found."""
    from vertebra.report.numbers import size

    heading(console, "Environment")
    facts(console, {**found["environment"], "folder": str(Path.cwd())})
    heading(console, f"Fast paths of backbone '{found['backbone']}'")
    table = Table.grid(padding=(0, 2))
    for path in found["fast_paths"]:
        state = Text("on", style="green") if path["on"] else Text("off", style="yellow")
        table.add_row("", Text(path["name"]), state, Text(path["reason"]))
    console.print(table)
    if found["backbone_error"]:
        console.print(Text(f"  {found['backbone_error']}", style="bold red"))
    heading(console, "Plugins")
    table = Table.grid(padding=(0, 2))
    for one in found["plugins"]:
        state = Text(one["state"], style=STYLES[one["state"]])
        table.add_row("", Text(one["name"]), Text(f"{one['source']} {one['version']}"), state, Text(one["error"] or ""))
    console.print(table)
    for note in found["notes"]:
        console.print(Text(f"  {note}"))
    heading(console, "Caches")
    kinds = found["caches"]["kinds"]
    sizes = {kind: f"{one['entries']} entries, {size(one['bytes'])}" for kind, one in kinds.items()}
    facts(console, {"folder": found["caches"]["folder"], **(sizes or {"entries": "none"})})
    heading(console, "Hub")
    facts(console, {found["hub"]["endpoint"]: found["hub"]["said"]})


def heading(console: Console, text: str) -> None:
    """Print the heading of a part."""
    console.print(Text(f"\n{text}", style="bold"))


def facts(console: Console, values: Mapping[str, Any]) -> None:
    """Print names and values in two columns."""
    table = Table.grid(padding=(0, 2))
    for name, value in values.items():
        table.add_row("", Text(name), Text(str(value)))
    console.print(table)
