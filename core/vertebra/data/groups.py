"""Rows that belong together: the flat rows of a file, such as a query with one candidate each, become one row a group."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from vertebra.config.schema import DataConfig
from vertebra.data.files import listed
from vertebra.data.formats import PlacedRow, Row, place_of
from vertebra.data.rows import ID, find_columns
from vertebra.errors import DataError
from vertebra.names import did_you_mean

Numbered = tuple[int, Row]
"""A row with its number in its split, from 1."""


def group_rows(rows: Iterable[Numbered], types: Mapping[str, type], data: DataConfig, place: str) -> list[Numbered]:
    """Return one row for each value of the column `data.group_by`, in the order in which the values come first.

    It has the task's columns by its own names: those whose type is a list gather the values of the group's rows, in their
    order; the others must agree. The group's value is its id, and the number of its first row its number. Raises
    `DataError` for a row that lacks a column or contradicts its group: by its number, behind `place`.
    """
    groups: dict[Any, list[Numbered]] = {}
    for number, row in rows:
        groups.setdefault(_value(number, row, data, place), []).append((number, row))
    return [(members[0][0], _joined(value, members, types, data, place)) for value, members in groups.items()]


def group_neighbours(
    rows: Iterable[Numbered], types: Mapping[str, type], data: DataConfig, place: str, only: Collection[str]
) -> Iterator[Numbered]:
    """Do the same with a stream: rows that follow each other become one, with the columns named in `only`."""
    for value, some in groupby(rows, key=lambda numbered: _value(numbered[0], numbered[1], data, place)):
        members = list(some)
        yield members[0][0], _joined(value, members, types, data, place, only)


def _joined(
    value: Any,
    members: Sequence[Numbered],
    types: Mapping[str, type],
    data: DataConfig,
    place: str,
    only: Collection[str] | None = None,
) -> Row:
    """Return the rows of a group as one."""
    joined: Row = {column: [] for column, kind in types.items() if kind is list and (only is None or column in only)}
    for number, row in members:
        try:
            keys = find_columns(row, types, data, only=only)
        except DataError as error:
            raise DataError(f"{place} row {number}: {error}") from None
        for column, key in keys.items():
            if types[column] is list:
                joined[column].append(row[key])
            elif joined.setdefault(column, row[key]) != row[key]:
                raise DataError(
                    f"{place} row {number}: column '{key}' is {row[key]!r:.60}, but row {members[0][0]} of the same "
                    f"{data.group_by} {value!r:.60} has {joined[column]!r:.60}."
                )
    return PlacedRow({**joined, ID: value}, place_of(members[0][1]))


def _value(number: int, row: Row, data: DataConfig, place: str) -> Any:
    """Return what a row is grouped by."""
    assert data.group_by is not None
    if data.group_by not in row:
        near = did_you_mean(data.group_by, row)
        there = f"There are: {listed(list(row))}. Set data.group_by=NAME."
        raise DataError(f"{place} row {number}: no column '{data.group_by}' to group by.{near} {there}")
    value = row[data.group_by]
    if value in (None, "") or not isinstance(value, str | int | float):
        raise DataError(
            f"{place} row {number}: column '{data.group_by}' must say which rows belong together, not {value!r:.60}."
        )
    return value
