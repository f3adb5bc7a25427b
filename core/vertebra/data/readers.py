"""The core's readers: the rows of each split, by a format's name."""

from __future__ import annotations

from collections.abc import Sequence

from vertebra.config.schema import DataConfig
from vertebra.data.formats import STREAMS, Row
from vertebra.data.hub import read_hub
from vertebra.data.splits import find_files
from vertebra.errors import DataError

__all__ = ["NotedRows", "read_columns", "read_csv", "read_hub", "read_json", "read_parquet", "read_tsv"]

SplitRows = dict[str, list[Row]]


class NotedRows(SplitRows):
    """What a reader returns that has more to say: rows by split, rows of `Task.tables` by table, and notes for the report.

    `split_by` is the column of the task whose rows a cut must not part, where `data.split_by` names none.
    """

    def __init__(self, rows: SplitRows, notes: Sequence[str] = (), split_by: str | None = None) -> None:
        super().__init__(rows)
        self.notes = tuple(notes)
        self.split_by = split_by


def read_columns(data: DataConfig) -> SplitRows:
    """Read files with one token a line and its tags in columns, sentences apart by blank lines."""
    return _read(data, "columns")


def read_csv(data: DataConfig) -> SplitRows:
    """Read tables whose fields may stand in double quotes."""
    return _read(data, "csv")


def read_tsv(data: DataConfig) -> SplitRows:
    """Read tables with one row a line, tabs between columns and no quoting."""
    return _read(data, "tsv")


def read_json(data: DataConfig) -> SplitRows:
    """Read files with one JSON object a line, or with a list of objects."""
    return _read(data, "json")


def read_parquet(data: DataConfig) -> SplitRows:
    """Read Parquet files."""
    return _read(data, "parquet")


def _read(data: DataConfig, name: str) -> SplitRows:
    rows: SplitRows = {}
    for split, files in find_files(data).items():
        rows[split] = [row for file in files for row in STREAMS[name](file, data)]
        if not rows[split]:
            raise DataError(f"'{files[0]}' has no rows.")
    return rows
