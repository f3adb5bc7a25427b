"""What a task adds to the report: tables and confusion matrices, as plain data that JSON can hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table: `rows` hold one cell for each of `columns`; floats are shown with four digits."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class ConfusionMatrix:
    """How often label `labels[i]` of the reference (row) was predicted as `labels[j]` (column)."""

    title: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    note: str = ""


Figure = Table | ConfusionMatrix
