"""Whether rows that cannot be used are refused with their number, and none goes missing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from types import SimpleNamespace
from typing import Any

from vertebra.config.schema import DataConfig
from vertebra.data.encode import encode_row
from vertebra.data.load import load_splits
from vertebra.data.rows import ID
from vertebra.errors import VertebraError
from vertebra.host.hooks import describe
from vertebra.host.hookspecs import hookimpl
from vertebra.host.manager import Host, create_host
from vertebra.host.records import PluginRecord
from vertebra.host.refs import ReaderRef
from vertebra.runs.tasks import load_task
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.task import Row, Task
from vertebra.testing.breaches import Breach, DoesNotApplyError, culprit
from vertebra.testing.case import Case
from vertebra.testing.likeness import brief

GOOD = 6
PLACE = 2
"""Where the bad row stands among the good ones, from 0."""
WRONG: dict[type, Any] = {str: ["no text"], int: "no number", float: "no number", bool: "perhaps", list: "no list"}
CAUSE = (
    "`check` or `encode` catches an error and goes on, reads with a default, or zips lists of different lengths: raise "
    "vertebra.errors.DataError in `check`, and the core adds the row's number; declare a column by its type (str, int, float, "
    "bool, list)"
)
SKIPPED = "the row is dropped: a row is refused, or skipped by data.bad_rows=skip with a note"


def check(case: Case) -> Iterator[Breach]:
    """Put one bad row among good ones, and see what loading and encoding make of it."""
    prepared, model = case.prepared
    if isinstance(prepared.task, CorpusTask):
        raise DoesNotApplyError("a corpus is read as running text")
    good = [{name: value for name, value in row.items() if name != ID} for row in prepared.splits.rows["train"]]
    host = with_reader(create_host())
    for what, row, may_be_taken in bad_rows(good, prepared.task.columns):
        try:
            outcome = fate(case, host, [*good[:PLACE], row, *good[PLACE:GOOD]], model.backbone.tokenizer)
        except Exception as error:
            yield Breach(
                culprit(error, case.packages, case.place("check")),
                f"{what} stops it with {describe(error)}: no word of the row's number, and no VertebraError",
                "`check` does not look at it before the code works with it: raise vertebra.errors.DataError there",
            )
            continue
        if outcome == "taken" and not may_be_taken:
            yield Breach(f"{case.place('check')}, {case.place('encode')}", f"{what} is taken without a word", CAUSE)
        elif outcome not in ("taken", "refused"):
            yield Breach(case.place("check"), f"{what}: {outcome}", SKIPPED)


def bad_rows(good: Sequence[Row], columns: dict[str, type]) -> Iterator[tuple[str, Row, bool]]:
    """Yield rows with one thing wrong, what it is, and whether a task may make something of it all the same."""
    row = good[PLACE]
    for name, kind in columns.items():
        yield f"a row without '{name}'", {key: value for key, value in row.items() if key != name}, False
        yield f"a row whose '{name}' is empty (None)", {**row, name: None}, False
        wrong = WRONG.get(kind, {"no": "such value"})
        yield f"a row whose '{name}' is {wrong!r}", {**row, name: wrong}, kind is dict
        if kind is str:
            yield f"a row whose '{name}' is ''", {**row, name: ""}, True
        if kind is list:
            yield f"a row whose '{name}' is []", {**row, name: []}, True
            yield f"a row whose '{name}' holds None", {**row, name: [None] * len(row[name])}, True
    for one, other in parallel(good, columns):
        yield f"a row with more in '{one}' than in '{other}'", {**row, other: row[other][:-1]}, False


def parallel(good: Sequence[Row], columns: dict[str, type]) -> Iterator[tuple[str, str]]:
    """Yield pairs of columns whose lists are of one length in every row, while rows differ."""
    lists = [name for name, kind in columns.items() if kind is list]
    for one, other in combinations(lists, 2):
        lengths = [(len(row[one]), len(row[other])) for row in good]
        if all(first == second > 0 for first, second in lengths) and len(set(lengths)) > 1:
            yield one, other


def fate(case: Case, host: Host, rows: list[Row], tokenizer: Any) -> str:
    """Return what became of the bad row: refused, taken, or how its rows or its number are missing."""
    choice = case.config().tasks[0]
    task = load_task(choice, host)
    try:
        data = DataConfig(format="given_rows", options=given(case, rows), valid_fraction=0, test_fraction=0)
        splits = load_splits(data, task, host)
    except VertebraError as error:
        numbered = re.search(rf"\brow {PLACE + 1}\b", str(error))
        return "refused" if numbered else f"the error does not name row {PLACE + 1}: {error}"
    if len(splits.rows["train"]) != len(rows):
        return f"of {len(rows)} rows {len(splits.rows['train'])} are left"
    return encoded(task, splits.rows["train"], tokenizer)


def encoded(task: Task, rows: Sequence[Row], tokenizer: Any) -> str:
    """Return whether the rows can be fitted on and encoded, or an error that names the row."""
    try:
        task.fit(rows)
        for row in rows:
            encode_row(task, row, tokenizer)
    except VertebraError as error:
        named = f"train-{PLACE + 1}" in str(error) or re.search(rf"\brow {PLACE + 1}\b", str(error))
        return "refused" if named else f"the error does not name row {PLACE + 1}: {brief(str(error), 120)}"
    return "taken"


def given(case: Case, rows: list[Row]) -> dict[str, Any]:
    """Return what the reader gives: training rows alone, and the sample's tables."""
    return {**case.prepared[0].splits.tables, "train": rows}


def read_given(data: DataConfig) -> dict[str, Any]:
    """Return the rows that the configuration holds."""
    return dict(data.options)


def with_reader(host: Host) -> Host:
    """Return a host that can read rows that are given to it."""

    @hookimpl
    def register_readers() -> list[ReaderRef]:
        return [ReaderRef("given_rows", f"{__name__}:read_given", reads_path=False)]

    host.add(PluginRecord("given rows", "vertebra", ""), lambda: SimpleNamespace(register_readers=register_readers))
    return host
