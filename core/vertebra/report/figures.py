"""What a task adds to the report: tables and confusion matrices, as plain data that JSON can hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table: `rows` hold one cell for each of `columns`; floats are shown with four digits."""

    title: str
    """What stands above the table."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]
    note: str = ""
    """A sentence below it."""


@dataclass(frozen=True)
class ConfusionMatrix:
    """How often label `labels[i]` of the reference (row) was predicted as `labels[j]` (column)."""

    title: str
    """What stands above the matrix."""
    labels: tuple[str, ...]
    """The names of rows and columns, L of them."""
    counts: tuple[tuple[int, ...], ...]
    """(L, L): a row for each true label, a column for each predicted one."""
    note: str = ""
    """A sentence below it."""


Figure = Table | ConfusionMatrix
