"""`vertebra plugins`: what is installed, what it brings, and why something does not work."""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vertebra.cli.main import TRACEBACK, wants_traceback
from vertebra.cli.parser import Parser
from vertebra.host.manager import Host, create_host
from vertebra.host.records import DISABLE, PluginRecord

STYLES = {"active": "green", "failed": "bold red", "blocked": "yellow"}


def main(argv: list[str]) -> int:
    """Print the table, or with `--json` the same as one JSON object."""
    parser = Parser(
        prog="vertebra plugins",
        description="List the installed plugins, what they bring and what failed.",
        epilog=f"{DISABLE}=NAME,... blocks plugins; {TRACEBACK}=1 shows where one failed.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    host = create_host()
    if parser.parse_args(argv).json:
        print(json.dumps(as_document(host), indent=2))
        return 0
    show(host, Console(highlight=False))
    return 0


def as_document(host: Host) -> dict[str, Any]:
    """Return what the table shows, as JSON can hold it."""
    return {
        "plugins": [
            {
                "name": plugin.name,
                "source": plugin.source,
                "version": plugin.version,
                "state": plugin.state,
                "error": plugin.error,
                "registers": {kind: list(names) for kind, names in plugin.registers.items()},
            }
            for plugin in host.plugins
        ],
        "notes": list(host.notes),
    }


def show(host: Host, console: Console) -> None:
    """Print the table, and where asked for the tracebacks."""
    table = Table("plugin", "distribution", "state", "registers, or why it does not", show_lines=True)
    for plugin in host.plugins:
        state = Text(plugin.state, style=STYLES[plugin.state])
        table.add_row(Text(plugin.name), Text(f"{plugin.source} {plugin.version}"), state, describe(plugin))
    console.print(table)
    if wants_traceback():
        for plugin in host.plugins:
            if plugin.cause is not None:
                print(f"\n{plugin.label}:", file=sys.stderr)
                traceback.print_exception(plugin.cause)


def describe(plugin: PluginRecord) -> Text:
    """Return the last cell of a plugin's row."""
    if plugin.state == "failed":
        return Text(f"{plugin.error}. To block it: {DISABLE}={plugin.name}")
    if plugin.state == "blocked":
        return Text(f"blocked by {DISABLE}")
    lines = [f"{kind}: {', '.join(names)}" for kind, names in plugin.registers.items()]
    return Text("\n".join(lines) or "hooks of a run")
