"""Files whose references stand in several columns: one text with all its summaries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vertebra.config.schema import DataConfig, Strict
from vertebra.data.formats import STREAMS, PlacedRow, format_of, place_of, where_in
from vertebra.data.options import reader_options
from vertebra.data.splits import find_files
from vertebra.errors import DataError


@dataclass(frozen=True)
class SummariesOptions(Strict):
    """What `data.options` may set."""

    documents: tuple[str, ...] = ("document", "dialogue", "article", "text")
    """The columns of which the first one that a row has is its document."""
    summaries: tuple[str, ...] = (
        "summary",
        "extra_summaries",
        "summary1",
        "summary2",
        "summary3",
        "highlights",
        "abstract",
    )
    """The columns that hold a summary, or a list of them; all that a row has are its references, in this order."""


def read(config: DataConfig) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the files of each split, in any format of tables, with `document` and `summary`, a list.

    Raises `DataError` for a row without either.
    """
    options = reader_options(SummariesOptions, config)
    rows: dict[str, list[dict[str, Any]]] = {}
    for split, files in find_files(config).items():
        rows[split] = []
        for file in files:
            stream = STREAMS[format_of(file, replace(config, format="auto"))]
            for number, row in enumerate(stream(file, config), start=1):
                try:
                    rows[split].append(PlacedRow(joined(row, options), place_of(row)))
                except DataError as error:
                    raise DataError(f"{where_in(file, number, row)}: {error}") from None
    return rows


def joined(row: dict[str, Any], options: SummariesOptions) -> dict[str, Any]:
    """Return a row with one document and the list of its different summaries, which the task checks."""
    document = next((row[name] for name in options.documents if name in row), None)
    if document is None:
        raise DataError(f"no column for the document; it has {', '.join(row)}. Set data.options.documents=[NAME].")
    summaries: list[Any] = []
    for name in options.summaries:
        value = row.get(name)
        values = value if isinstance(value, list) else [] if value is None else [value]
        summaries += [one for place, one in enumerate(values) if one not in summaries and one not in values[:place]]
    if not summaries:
        raise DataError(f"no summary; it has {', '.join(row)}. Set data.options.summaries=[NAME, …].")
    own = next((row[column] for column in ("id", "fname") if column in row), None)
    return {**({} if own is None else {"id": own}), "document": document, "summary": summaries}
