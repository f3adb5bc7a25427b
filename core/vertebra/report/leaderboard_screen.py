"""A leaderboard on the screen: its tables in the fullest form that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vertebra.report.leaderboard import Grid, written

if TYPE_CHECKING:
    from vertebra.report.scale import Scale
    from vertebra.runs.leaderboard import Leaderboard

NARROWEST = 9
"""Characters that a column of names keeps at least; longer ones go on in the next line."""


def show(board: Leaderboard, scale: Scale, console: Console) -> None:
    """Print the tables and the notes of a leaderboard."""
    console.print(Text(board.title, style="bold"))
    for part in written(board, scale):
        console.print()
        console.print(fitting(part, console) if isinstance(part, Grid) else Text(part))


def fitting(grid: Grid, console: Console) -> Table:
    """Return a table as it is, with heads over several lines, or, where numbers alone are too wide, a line for each."""
    forms = (_table(grid), _table(grid, stacked=True))
    return next(
        (form for form in forms if _least_width(form, grid) <= console.width), _table(in_lines(grid), narrowest=1)
    )


def in_lines(grid: Grid) -> Grid:
    """Return a line for each number of a table, with the names of its row and of its column."""
    n = grid.names
    rows = [
        [*row[:n], column, cell] for row in grid.rows for column, cell in zip(grid.columns[n:], row[n:], strict=True)
    ]
    return Grid([*grid.columns[:n], "", ""], rows, names=n + 1)


def _table(grid: Grid, *, stacked: bool = False, narrowest: int = NARROWEST) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, header_style="not bold dim"
    )
    for number, name in enumerate(grid.columns):
        if number < grid.names:
            table.add_column(Text(name), overflow="fold", min_width=min(narrowest, _longest(grid, number)))
        else:
            table.add_column(Text(name.replace(" ", "\n") if stacked else name), justify="right", no_wrap=True)
    for row in grid.rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(text: str) -> Text:
    """Return a cell in which `**so**` is bold."""
    cell = Text()
    for number, part in enumerate(text.split("**")):
        cell.append(part, style="bold" if number % 2 else "")
    return cell


def _least_width(table: Table, grid: Grid) -> int:
    """Return how wide a table is with its names over several lines and its numbers whole."""
    heads = [max(len(line) for line in str(column.header).splitlines() or [""]) for column in table.columns]
    widths = [
        max(head, min(NARROWEST, _longest(grid, number)) if number < grid.names else _longest(grid, number))
        for number, head in enumerate(heads)
    ]
    return sum(widths) + 2 * (len(widths) - 1)


def _longest(grid: Grid, column: int) -> int:
    return max((len(row[column].replace("**", "")) for row in grid.rows), default=0)
