"""The tables on the screen."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vertebra.report.numbers import count, magnitude

WIDTH = 110


def print_report(report: dict[str, Any], console: Console | None = None) -> None:
    """Print what was measured, each side, each of ours against each of theirs, the numeric differences, and the notes."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(Text(heading(report), style="bold"))
    for table in (sides_table(report), ratios_table(report), differences_table(report)):
        if table.row_count:
            console.print()
            console.print(table)
    console.print()
    for note in report["notes"]:
        console.print(Text.assemble(("Note: ", "bold yellow"), note))


def heading(report: dict[str, Any]) -> str:
    """Say in one line what was measured on what."""
    work, options = report["work"], report["options"]
    device = "the GPU" if options["device"] == "cuda" else f"{options['threads']} CPU thread(s)"
    return (
        f"{report['command']}: {work['family']} {options['shape']} ({magnitude(work['parameters'])} parameters), "
        f"{work['data']}, batch {options['batch']}, {device}"
    )


def sides_table(report: dict[str, Any]) -> Table:
    """Return a row for each side."""
    table = _table("", "real tokens/s", "least–most", "ms a step", "CPU ms", "of ceiling", "peak memory")
    for side in report["sides"]:
        speed = side["tokens_a_second"]
        memory = side["memory"]["gpu"] or side["memory"]["resident"]
        table.add_row(
            Text(side["name"], style="bold" if side["ours"] else ""),
            count(speed["median"]),
            f"{count(speed['least'])}–{count(speed['most'])}",
            count(1000 * side["wall_a_step"]["median"]),
            count(1000 * side["cpu_a_step"]["median"]),
            f"{side['share_of_ceiling']:.0%}",
            f"{memory / 2**20:,.0f} MiB",
        )
    return table


def ratios_table(report: dict[str, Any]) -> Table:
    """Return a row for each of our sides against each of theirs."""
    table = _table("times as fast as", "median", "least–most")
    for one in report["ratios"]:
        table.add_row(f"{one['ours']} : {one['peer']}", f"{one['median']:.2f}", f"{one['least']:.2f}–{one['most']:.2f}")
    return table


def differences_table(report: dict[str, Any]) -> Table:
    """Return a row for each side whose numbers were compared."""
    found = report["differences"]
    names = list(dict.fromkeys(name for one in found.values() for name in one))
    table = _table("relative difference", *names)
    for side, one in found.items():
        table.add_row(side, *(f"{one[name]:.1e}" for name in names))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="not bold dim")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right")
    return table
