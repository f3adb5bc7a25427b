"""A user's own interactions: one file that says who took what when, and one with the items' texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from vertebra.config.schema import DataConfig
from vertebra.data.files import listed
from vertebra.data.formats import STREAMS, Row, bare_name, format_of, where_in
from vertebra.data.options import reader_options
from vertebra.data.readers import NotedRows
from vertebra.errors import DataError
from vertebra.names import did_you_mean
from vertebra_recommendation.interactions import Interaction, InteractionOptions, Item, leave_one_out


@dataclass(frozen=True)
class FileOptions(InteractionOptions):
    """What `data.options` may set besides: the files, and the names of their columns."""

    interactions: str = "interactions"
    """The file of interactions in `data.path`, with or without its suffix."""
    items: str = "items"
    """The file of items."""
    user: str = "user"
    """The column of the user."""
    item: str = "item"
    """The column of the item, in both files."""
    time: str = "time"
    """The column of the time: a number, or a date as ISO 8601 has it."""
    text: str = "text"
    """The column of the item's text."""
    title: str = "title"
    """The column of what is shown of an item; its text where there is no such column."""


def read(config: DataConfig) -> NotedRows:
    """Return the rows of each split and the items."""
    options = reader_options(FileOptions, config)
    if config.path is None:
        raise DataError("data.path is not set. Give the folder with the files of interactions and of items.")
    folder = Path(config.path).expanduser()
    if not folder.is_dir():
        raise DataError(f"There is no folder '{folder}': give the one with the files of interactions and of items.")
    taken = _interactions(_file(folder, options.interactions, "interactions"), config, options)
    return leave_one_out(list(taken), list(_items(_file(folder, options.items, "items"), config, options)), options)


def _file(folder: Path, name: str, option: str) -> Path:
    """Return the file of this name, with whatever suffix it has."""
    entries = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    found = [entry for entry in entries if name in (entry.name, bare_name(entry))]
    if len(found) != 1:
        what = "no file" if not found else "more than one file"
        near = did_you_mean(name, [entry.name for entry in entries])
        there = listed([entry.name for entry in entries])
        raise DataError(f"'{folder}' has {what} '{name}'.{near} It holds: {there}. Set data.options.{option}=FILE.")
    return found[0]


def _interactions(path: Path, config: DataConfig, options: FileOptions) -> Iterator[Interaction]:
    for where, row in _rows(path, config):
        user, item, time = (_value(row, getattr(options, name), name, where) for name in ("user", "item", "time"))
        yield Interaction(user, item, _seconds(time, where), where)


def _items(path: Path, config: DataConfig, options: FileOptions) -> Iterator[Item]:
    for where, row in _rows(path, config):
        text = row.get(options.text)
        if options.text not in row:
            _value(row, options.text, "text", where)  # says what there is
        title = row.get(options.title)
        text = "" if text is None else str(text)
        yield {"item": _value(row, options.item, "item", where), "title": str(title) if title else text, "text": text}


def _rows(path: Path, config: DataConfig) -> Iterator[tuple[str, Row]]:
    for number, row in enumerate(STREAMS[format_of(path, config)](path, config), start=1):
        yield where_in(path, number, row), row


def _value(row: Row, column: str, option: str, where: str) -> str:
    """Return a value as a text; `DataError` where there is none."""
    if column not in row:
        raise DataError(
            f"{where}: no column '{column}'.{did_you_mean(column, row)} There are: {listed(list(row))}. Set "
            f"data.options.{option}=NAME."
        )
    value: Any = row[column]
    if value is None or isinstance(value, bool | list | dict) or not str(value).strip():
        raise DataError(f"{where}: column '{column}' must be a text or a number, not {value!r}.")
    return str(value).strip()


def _seconds(value: str, where: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            seconds = float("nan")
        else:
            # A date without a zone is one of UTC, so that the machine's own zone decides nothing.
            seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    if not isfinite(seconds):
        raise DataError(f"{where}: the time {value!r} is neither a number nor a date such as 2026-11-22T18:00:00.")
    return seconds
