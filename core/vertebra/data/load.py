"""Load a data set for a task: rows of each split in the task's own terms, checked, with stable ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vertebra.config.schema import DataConfig
from vertebra.data.files import listed
from vertebra.data.formats import Row, place_of
from vertebra.data.groups import Numbered, group_rows
from vertebra.data.rows import ID, MissingColumnError, by_place, check_mapping, own_id, take
from vertebra.data.splits import SPLITS, TEST, TRAIN, VALID, check_names, cut, find_format
from vertebra.errors import DataError
from vertebra.names import unknown

if TYPE_CHECKING:
    from vertebra.host.manager import Host
    from vertebra.host.refs import Ref
    from vertebra.tasks.task import Task

OR_SKIP = "Mend it, or leave out such rows by data.bad_rows=skip, which counts them."
"""What can be done about a row that a task refuses."""


@dataclass(frozen=True)
class Splits:
    """The rows of a data set."""

    rows: Mapping[str, Sequence[Row]]
    """The rows of train, valid and test; valid or test may be missing. A row has the task's columns and a text `id`."""
    fingerprint: str
    """A hash of all rows: equal if and only if the task sees the same data."""
    notes: tuple[str, ...] = ()
    """What a reader of results must know of the data."""
    tables: dict[str, list[Row]] = field(default_factory=dict)
    """The tables that the task names, checked as rows are."""


def load_splits(data: DataConfig, task: Task, host: Host, *, for_training: bool = True) -> Splits:
    """Read, map and check the data, and cut the splits that it lacks; training rows are needed only `for_training`.

    The task gets the tables that it names first, since they may decide which rows are right.

    A row's id is the data's own `id` column or "SPLIT-NUMBER", where the number is that of the row in its file, from 1;
    a row that is cut from the training file keeps its name there. Raises `DataError` for data that the task cannot use.
    """
    check_mapping(data, task.columns)
    _check_split_by(data.split_by, task)
    name = find_format(data) if data.format == "auto" else data.format
    reader = host.get("reader", name)
    check_given_splits(data, reader)
    raw = reader.load()(data)
    _check_split_names(raw, name, task)
    split_by = data.split_by or getattr(raw, "split_by", None)
    _check_split_by(split_by, task)
    tables = {table: _checked_table(raw, table, data, task) for table in task.tables}
    task.read_tables(tables)
    skipped: list[str] = []
    rows = {split: _checked(raw[split], split, data, task, skipped) for split in SPLITS if split in raw}
    if for_training and not rows.get(TRAIN):
        found = f" (it has: {listed(list(raw))})" if raw else ""
        raise DataError(f"The data at '{data.path}' has no training rows{found}. Set data.splits.train=FILE.")
    _refuse_empty(rows, data, skipped)
    rows, cuts = _with_cuts(rows, data, split_by)
    # Who reads a score must know that nobody wrote these rows.
    made = [] if getattr(reader, "reads_path", True) else [f"synthetic data: {reader.summary or name}"]
    first = next((row for split in SPLITS for row in raw.get(split, ())), None)
    if first is None:
        raise DataError(f"The data at '{data.path}' has no rows.")
    notes = [*made, *getattr(raw, "notes", ()), *_places(first, data, task), *skipped, *cuts]
    if data.limit is not None:
        rows = {split: some[: data.limit] for split, some in rows.items()}
        notes.append(f"at most {data.limit} rows of each split (data.limit)")
    return Splits(rows, fingerprint(rows | tables), tuple(notes), tables)


def fingerprint(rows: Mapping[str, Iterable[Row]] | Iterable[Row]) -> str:
    """Return a hash of rows, or of the rows of each split: of their content and order."""
    digest = hashlib.blake2b(digest_size=16)
    splits = rows if isinstance(rows, Mapping) else {"": rows}
    for split, some in sorted(splits.items()):
        digest.update(f"{split}\n".encode())
        for row in some:
            digest.update(json.dumps(row, sort_keys=True, default=repr).encode())
            digest.update(b"\n")
    return digest.hexdigest()


def _checked(raw: list[Row], split: str, data: DataConfig, task: Task, notes: list[str]) -> list[Row]:
    """Map and check the rows of a split; every error names the split and the row, what is skipped goes to `notes`."""
    rows: list[Row] = []
    seen: dict[str, int] = {}
    refused: dict[int, str] = {}
    numbered: Iterable[Numbered] = enumerate(raw, start=1)
    if data.group_by is not None:
        numbered = group_rows(numbered, task.columns, data, f"'{data.path}', {split}")
        data = in_own_terms(data)
    for number, row in numbered:
        try:
            taken = take(row, task.columns, data)
            taken[ID] = row_id(row, data, f"{split}-{number}")
            task.check(taken)
            if taken[ID] in seen:
                raise DataError(f"id '{taken[ID]}' is that of row {seen[taken[ID]]}, too.")
        except MissingColumnError as error:
            where = f"The {split} split of '{data.path}'" if number == 1 else _where(split, number, row, data)
            raise DataError(f"{where} has {error}") from None
        except DataError as error:
            if data.bad_rows == "error":
                raise DataError(f"{_where(split, number, row, data)}: {error} {OR_SKIP}") from None
            place = place_of(row)
            refused[number] = f"{number} ({place}): {error}" if place else f"{number}: {error}"
            continue
        seen[taken[ID]] = number
        rows.append(taken)
    if refused:
        first, *others = refused
        also = f" Others: {listed([str(number) for number in others])}." if others else ""
        notes.append(
            f"{split}: {len(refused)} rows skipped (data.bad_rows=skip), the first is row {refused[first]}{also}"
        )
    return rows


def _where(split: str, number: int, row: Row, data: DataConfig) -> str:
    """Say which row it is: by its number in the split and, where the reader knows, its line."""
    of = f" of '{data.path}'" if data.path is not None else ""
    place = place_of(row)
    return f"{split} row {number}{of} ({place})" if place else f"{split} row {number}{of}"


def in_own_terms(data: DataConfig) -> DataConfig:
    """Return the configuration for rows that have been grouped, and have the task's columns by its own names."""
    return replace(data, columns={}, group_by=None)


def row_id(row: Row, data: DataConfig, default: str, *, required: bool = True) -> str:
    """Return a row's own id, or the default; `MissingColumnError` for one that is configured, `required` and not there."""
    try:
        value = own_id(row, data)
    except MissingColumnError:
        if required:
            raise
        value = None
    return default if value is None or value == "" else str(value)


def _with_cuts(
    rows: dict[str, list[Row]], data: DataConfig, column: str | None
) -> tuple[dict[str, list[Row]], list[str]]:
    """Cut the splits that are missing from the training rows, those with one value in `column` together; note what was cut."""
    fractions = {VALID: data.valid_fraction, TEST: data.test_fraction}
    if TRAIN not in rows:
        return rows, []
    wanted = [split for split in (VALID, TEST) if split not in rows]
    together = None if column is None else lambda row: _hashable(row[column])
    pieces = cut(rows[TRAIN], data, wanted, together)
    whole = f", rows of one {column} together" if column else ""
    notes = [
        f"{split}: {fractions[split]:.0%} of the training rows ({len(pieces[split])}), cut by seed {data.split_seed}{whole}"
        for split in wanted
        if split in pieces
    ]
    return {split: some for split in SPLITS if (some := (rows | pieces).get(split))}, notes


def _hashable(value: Any) -> Hashable:
    return value if isinstance(value, Hashable) else json.dumps(value, sort_keys=True, default=repr)


def _places(row: Row, data: DataConfig, task: Task) -> list[str]:
    """Say which columns were taken where neither the file nor the configuration names them."""
    columns = list(task.columns)
    return [f"columns by place: '{columns[0]}' is the first, '{columns[-1]}' the last"] if by_place(row, data) else []


def _checked_table(raw: Mapping[str, list[Row]], table: str, data: DataConfig, task: Task) -> list[Row]:
    """Check the columns of a table; every error names the table and the row."""
    if not raw.get(table):
        raise DataError(
            f"The data have no table '{table}', which task '{task.name}' needs (columns: {listed(list(task.tables[table]))}). "
            "Only some readers bring tables: choose one by data.format."
        )
    rows: list[Row] = []
    for number, row in enumerate(raw[table], start=1):
        try:
            rows.append(take(row, task.tables[table], DataConfig()))
        except DataError as error:
            raise DataError(f"{table} row {number}: {error}") from None
    return rows


def check_given_splits(data: DataConfig, reader: Ref) -> None:
    """Raise `DataError` where `data.splits` names what is no split, or the reader would not read it."""
    check_names(data)
    if data.splits and getattr(reader, "splits", None) is None:
        raise DataError(
            f"data.splits: the reader '{reader.name}' finds its splits by itself, and would not read "
            f"data.splits.{next(iter(data.splits))}. Leave it out."
        )


def _refuse_empty(rows: Mapping[str, list[Row]], data: DataConfig, skipped: Sequence[str]) -> None:
    """Raise `DataError` for a split to evaluate on that is there and has nothing, which must not pass for none."""
    for split in (VALID, TEST):
        if split in rows and not rows[split]:
            why = next((f" ({note})" for note in skipped if note.startswith(f"{split}:")), "")
            raise DataError(
                f"The {split} split of '{data.path}' has no rows{why}. Without it, it is cut from the training rows."
            )


def _check_split_by(column: str | None, task: Task) -> None:
    if column is not None and column not in task.columns:
        raise DataError(f"data.split_by: {unknown('column of the task', column, task.columns)}")


def _check_split_names(raw: Mapping[str, object], reader: str, task: Task) -> None:
    strange = [split for split in raw if split not in SPLITS and split not in task.tables]
    if strange:
        raise DataError(f"The reader '{reader}' gave the split '{strange[0]}'; splits are {', '.join(SPLITS)}.")
