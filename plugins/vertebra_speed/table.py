"""The tables of a report, as text: for the screen and for docs/performance.md. This module imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vertebra.report.numbers import count, magnitude

WIDTH = 116


@dataclass(frozen=True)
class Grid:
    """A table: the names of its columns, and rows of text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def print_report(report: dict[str, Any], console: Console | None = None) -> None:
    """Print what was measured, its tables, and the notes."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(Text(heading(report), style="bold"))
    for grid in grids(report):
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="not bold dim")
        for number, name in enumerate(grid.columns):
            table.add_column(name, justify="right" if number else "left", overflow="fold")
        for row in grid.rows:
            table.add_row(*map(Text, row), style="bold" if row[0].startswith("Vertebra") else None)
        console.print()
        console.print(table)
    console.print()
    for note in report["notes"]:
        console.print(Text.assemble(("Note: ", "bold yellow"), note))


def heading(report: dict[str, Any]) -> str:
    """Say in one line what was measured on what."""
    command: str = report["command"]
    work, options = report["work"], report["options"]
    if not work:
        return command
    threads = options["threads"]
    device = "the GPU" if options["device"] == "cuda" else "1 CPU thread" if threads == 1 else f"{threads} CPU threads"
    size = f"{work['family']} {options['shape']} ({magnitude(work['parameters'])} parameters)"
    return f"{command}: {size}, {work['data']}, {device}"


def grids(report: dict[str, Any]) -> list[Grid]:
    """Return the tables of a report that have rows: the sides, the ratios, the memory, the differences."""
    found = [seconds(report), sides(report), ratios(report), memory(report), differences(report)]
    return [grid for grid in found if grid.rows]


def seconds(report: dict[str, Any]) -> Grid:
    """Return a row for each program, where whole programs were timed."""
    rows = [
        (name, f"{one['median']:.2f}", f"{one['least']:.2f}–{one['most']:.2f}")
        for name, one in report.get("seconds", {}).items()
    ]
    return Grid(("", "seconds", "least–most"), tuple(rows))


def sides(report: dict[str, Any]) -> Grid:
    """Return a row for each side."""
    rows = [
        (
            side["name"],
            count(side["tokens_a_second"]["median"]),
            f"{count(side['tokens_a_second']['least'])}–{count(side['tokens_a_second']['most'])}",
            count(1000 * side["wall"]["median"]),
            count(1000 * side["cpu"]["median"]),
            "-" if side["share_of_ceiling"] is None else f"{side['share_of_ceiling']:.0%}",
            mebibytes(side["memory"]),
        )
        for side in report.get("sides", [])
    ]
    columns = ("", "tokens/s", "least–most", f"ms a {report.get('unit')}", "CPU ms", "of ceiling", "peak MiB")
    return Grid(columns, tuple(rows))


def ratios(report: dict[str, Any]) -> Grid:
    """Return a row for each of our sides against each of theirs."""
    rows = [
        (f"{one['ours']} : {one['peer']}", f"{one['median']:.2f}", f"{one['least']:.2f}–{one['most']:.2f}")
        for one in report.get("ratios", [])
    ]
    return Grid(("times as fast", "median", "least–most"), tuple(rows))


def memory(report: dict[str, Any]) -> Grid:
    """Return the peak memory of each side by the amount of data, where it was measured."""
    found = report.get("memory", {})
    sizes = list(next(iter(found.values()), {}))
    rows = [(name, *(mebibytes(by_size[size]) for size in sizes)) for name, by_size in found.items()]
    return Grid(("peak MiB by rows", *(count(int(size)) for size in sizes)), tuple(rows))


def differences(report: dict[str, Any]) -> Grid:
    """Return a row for each side whose numbers were compared."""
    found = report.get("differences", {})
    names = list(dict.fromkeys(name for one in found.values() for name in one))
    rows = [(side, *(difference(one.get(name)) for name in names)) for side, one in found.items()]
    return Grid(("difference", *names), tuple(rows))


def difference(value: float | str | None) -> str:
    """Write a relative difference; text stays as it is."""
    return "-" if value is None else value if isinstance(value, str) else f"{value:.1e}"


def mebibytes(found: dict[str, int]) -> str:
    """Write the memory of the GPU or, where none was used, of the process."""
    return f"{(found['gpu'] or found['resident']) / 2**20:,.0f}"
