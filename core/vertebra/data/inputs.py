"""Rows to predict on: checked as training rows are, and those of a file one at a time, so that memory does not grow with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.config.schema import DataConfig
from vertebra.data.files import listed
from vertebra.data.formats import STREAMS, Row, format_of, has_no_names, is_plain_text, numbered, where_in
from vertebra.data.groups import Numbered, group_neighbours
from vertebra.data.load import in_own_terms, row_id
from vertebra.data.rows import ID, MissingColumnError, take
from vertebra.data.splits import find_format
from vertebra.errors import DataError
from vertebra.names import unknown

if TYPE_CHECKING:
    from vertebra.tasks.task import Task

UTF_8 = "utf-8"


def checked(row: Row, task: Task) -> Row:
    """Return a row to predict on with its values as the task declares them; `DataError` where it cannot use them.

    What the task does not declare stays as it is; a column that is not needed may be None, and is then left out.
    """
    types = {**task.columns, **task.optional_inputs}
    needed = task.needed_for_prediction()
    given = [name for name in types if name in needed or row.get(name) is not None]
    values = take(row, types, DataConfig(), only=given)
    row = {name: values.get(name, value) for name, value in row.items() if name in values or name not in types}
    task.check(row)
    return row


def iterate_file(path: Path, data: DataConfig, task: Task, encoding: str = UTF_8) -> Iterator[Row]:
    """Yield the rows of a file for prediction.

    Its ending says its format. A `.txt` is one text a line, unless the training data had the format of its content.

    `data` is the configuration that the task was trained with: its names of columns count wherever a row has them, its
    numbers where rows have no names, its separator for files of the training data's format. The encoding is not the
    training data's.

    A row has the columns that prediction needs, the task's optional ones that are there, and an `id`. Where needed ones are
    missing but a column `text` is there, the task makes the row of that text. A JSON list is read whole; all else is
    streamed. With `data.group_by`, rows that follow each other and have that column become one. Raises `DataError` with
    file and row.
    """
    path = Path(path).expanduser()
    name, data = _form(path, data, task, encoding)
    rows: Iterator[Numbered] = enumerate(STREAMS[name](path, data), start=1)
    for number, raw, its_data in _grouped_where_flat(rows, data, task, f"'{path}'"):
        yield _row(raw, its_data, task, path, number)


def iterate_mixed_file(
    path: Path, tasks: Mapping[str, tuple[DataConfig, Task]], encoding: str = UTF_8
) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a file, each with the name in its column `task`; as `iterate_file` does of one task's rows."""
    path = Path(path).expanduser()
    plain = DataConfig(encoding=encoding)
    for number, raw in enumerate(STREAMS[format_of(path, plain)](path, plain), start=1):
        name = raw.pop("task", None)
        if name is None:
            raise DataError(
                f"{where_in(path, number, raw)}: no task: with several runs each row has a column 'task', which is one of "
                f"{listed(list(tasks))}."
            )
        if name not in tasks:
            raise DataError(f"{where_in(path, number, raw)}: {unknown('task', str(name), tasks)}")
        data, task = tasks[name]
        yield name, _row(raw, data, task, path, number)


def _form(path: Path, trained: DataConfig, task: Task, encoding: str) -> tuple[str, DataConfig]:
    """Return a file's format, and the configuration without what the training data's form says of other files."""
    data, of_training = replace(trained, encoding=encoding), _trained_format(trained)
    name = format_of(path, data)
    if is_plain_text(path) and name not in ("text", of_training):
        if of_training is None:
            raise DataError(
                f"'{path}' could be one text a line, or {name} as the training data may have been, which are no longer at "
                f"'{trained.path}' to tell. Give it the ending of its format, such as .conll, .tsv or .jsonl."
            )
        name = "text"
    if of_training not in (name, None):
        data = replace(data, separator=None)
    if numbered(data) and name in ("csv", "tsv") and _has_header(path, name, data, task):
        data = in_own_terms(data)
    return name, data


def _trained_format(data: DataConfig) -> str | None:
    """Return the format of the training data; None where they are not there any more to tell."""
    if data.format != "auto":
        return data.format
    try:
        return find_format(data)
    except (DataError, OSError):
        return None


def _has_header(path: Path, name: str, data: DataConfig, task: Task) -> bool:
    """Whether a table names the columns that the task needs, although the training data's tables name none."""
    try:
        names = set(next(STREAMS[name](path, in_own_terms(data)), {}))
    except DataError:
        return False
    return "text" in names or names.issuperset(task.needed_for_prediction())


def _row(raw: Row, data: DataConfig, task: Task, path: Path, number: int) -> Row:
    """Return a row of a file in the task's terms, with its id; `DataError` with file and row."""
    if numbered(data) and not has_no_names(raw):  # the training data's numbers say nothing of columns with names
        data = in_own_terms(data)
    optional = {name: raw[name] for name in task.optional_inputs if raw.get(name) not in (None, "")}
    try:
        row = checked(_needed(task, raw, data) | optional, task)
        return row | {ID: row_id(raw, data, f"row-{number}", required=False)}
    except DataError as error:
        raise DataError(f"{where_in(path, number, raw)}: {error}") from None


def _needed(task: Task, raw: Row, data: DataConfig) -> Row:
    """Take the columns as the configuration maps them, else by the task's own names, else make the row of a text."""
    needed = task.needed_for_prediction()
    try:
        return take(raw, task.columns, data, only=needed)
    except MissingColumnError as error:
        if all(column in raw for column in needed):
            return take(raw, task.columns, DataConfig(), only=needed)
        if isinstance(raw.get("text"), str):
            return task.row_from_text(raw["text"])
        if has_no_names(raw):
            raise
        raise DataError(f"{error.found} To predict, task '{task.name}' needs {' and '.join(needed)}.") from None


def _grouped_where_flat(
    rows: Iterator[Numbered], data: DataConfig, task: Task, place: str
) -> Iterator[tuple[int, Row, DataConfig]]:
    """Yield numbered rows with the configuration that fits them: flat ones grouped, others as they are."""
    for flat, some in groupby(rows, key=lambda numbered: data.group_by is not None and data.group_by in numbered[1]):
        if not flat:
            yield from ((number, row, data) for number, row in some)
            continue
        for number, row in group_neighbours(some, task.columns, data, place, task.needed_for_prediction()):
            yield number, row, in_own_terms(data)
