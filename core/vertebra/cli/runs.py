"""`vertebra runs`: what was run, with which settings, and how it ended."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vertebra.cli.parser import Parser
from vertebra.host.manager import create_host
from vertebra.report.numbers import duration
from vertebra.report.scale import Scale
from vertebra.report.screen import print_whole
from vertebra.runs.listing import STATES, FoundRun, chosen, find_runs, ordered

COLUMNS = ("task", "backbone", "adapter", "seed")
STYLES = {"finished": "green", "failed": "bold red", "unreadable": "bold red"}


def main(argv: Sequence[str]) -> int:
    """Run `vertebra runs` with these arguments."""
    arguments = parser().parse_args(list(argv))
    runs = chosen(list(find_runs(arguments.folder)), arguments.where, arguments.state)
    if arguments.sort is not None and runs:
        runs = ordered(runs, arguments.sort)
    if arguments.reverse:
        runs.reverse()
    if arguments.json:
        print(json.dumps([as_document(run) for run in runs], indent=1, ensure_ascii=False))
    else:
        show(runs, Console(highlight=False))
    return 0


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="vertebra runs",
        description="List the runs below folders: settings, state, and the primary metric on validation and test.",
        epilog="Example: vertebra runs runs/sweep --where task=ner seed=1,2 --state finished --sort entity_f1",
    )
    parser.add_argument(
        "folder", nargs="*", metavar="FOLDER", type=Path, default=[Path("runs")], help="by default runs/"
    )
    parser.add_argument(
        "--where",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="settings, as in seed=1,2 task=ner",
    )
    parser.add_argument(
        "--state", nargs="+", action="extend", default=[], choices=STATES, help="only runs in these states"
    )
    parser.add_argument(
        "--sort", metavar="NAME", help="a metric (of validation, highest first), a setting, created, seconds"
    )
    parser.add_argument("--reverse", action="store_true", help="turn the order around")
    parser.add_argument("--json", action="store_true", help="print JSON, with all settings and scores")
    return parser


def as_document(run: FoundRun) -> dict[str, Any]:
    """Return what is known of a run, as JSON can hold it."""
    return {
        "folder": str(run.folder),
        "state": run.state,
        "reason": run.reason,
        "created": run.created,
        "seconds": run.seconds,
        "metric": run.metric,
        "scores": run.scores,
        "settings": run.settings,
    }


def show(runs: Sequence[FoundRun], console: Console) -> None:
    """Print the table, and what is to be said of runs that have not finished."""
    if not runs:
        print("No such runs.", file=sys.stderr)
        return
    scale = Scale.of(create_host())
    same = {
        name: str(runs[0].settings.get(name)) for name in COLUMNS if len({str(r.settings.get(name)) for r in runs}) == 1
    }
    columns = [name for name in COLUMNS if name not in same or len(runs) == 1]
    table = Table(box=None, pad_edge=False)
    for name in (*columns, "state", "begun", "time", "metric", "valid", "test", "run"):
        table.add_column(Text(name), justify="right" if name in ("valid", "test") else "left", no_wrap=True)
    for run in runs:
        settings = [str(run.settings.get(name, "")) for name in columns]
        begun = (run.created or "")[:16].replace("T", " ")
        time = "" if run.seconds is None else duration(run.seconds)
        scores = [run.score(split) for split in ("valid", "test")]
        written = ["" if score is None else scale.score(run.metric or "", score) for score in scores]
        state = Text(run.state, style=STYLES.get(run.state, ""))
        metric = scale.named(run.metric) if run.metric else ""
        table.add_row(*map(Text, settings), state, *map(Text, [begun, time, metric, *written, str(run.folder)]))
    if same and len(runs) > 1:
        console.print(Text("all: " + " ".join(f"{name}={value}" for name, value in same.items()) + "\n"))
    print_whole(table, console)
    unread = [run for run in runs if run.state in ("failed", "unreadable") and run.reason]
    if unread:
        console.print()
    for run in unread:
        console.print(Text(f"{run.folder}: {run.reason}"), soft_wrap=True)
