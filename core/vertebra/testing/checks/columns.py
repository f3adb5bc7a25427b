"""Whether the task reads the columns that it declares, and no other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial
from typing import Any

from vertebra.data.encode import encode_row
from vertebra.data.load import load_splits
from vertebra.engine.loading import load_tokenizer
from vertebra.names import did_you_mean
from vertebra.runs.tasks import load_task
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.task import Task
from vertebra.testing.breaches import Breach, DoesNotApplyError
from vertebra.testing.case import Case

ROWS = 3


class Watched(dict[str, Any]):
    """A row that remembers which of its columns were asked for."""

    def __init__(self, row: dict[str, Any], asked: set[str]) -> None:
        super().__init__(row)
        self.asked = asked

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a column, or the default."""
        self.asked.add(name)
        return super().get(name, default)


def check(case: Case) -> Iterator[Breach]:
    """Let the task read rows that remember what it asked them for."""
    config = case.config()
    task = load_task(config.tasks[0], case.host)
    if isinstance(task, CorpusTask):
        raise DoesNotApplyError("a corpus is read as running text")
    yield from check_declared(case, task.columns, task.needed_for_prediction())
    yield from check_optional(case, task)
    splits = load_splits(config.tasks[0].data, task, case.host)
    asked: set[str] = set()
    watched = [Watched(dict(row), asked) for row in splits.rows["train"]]
    for name, call in [("fit", partial(task.fit, watched)), *(("check", partial(task.check, row)) for row in watched)]:
        try:
            call()
        except KeyError as error:
            yield undeclared(case, name, error, task.columns)
            return
    tokenizer = load_tokenizer(config.backbone, case.host)
    judged = [Watched(dict(row), asked) for row in splits.rows.get("valid", splits.rows["train"])[:ROWS]]
    for row in [*watched[:ROWS], *judged]:
        try:
            encode_row(task, row, tokenizer)
        except KeyError as error:
            yield undeclared(case, "encode", error, task.columns)
            return
    for row in judged:
        try:
            task.reference(row)
        except KeyError as error:
            yield undeclared(case, "reference", error, task.columns)
            return
    unread = [name for name in task.columns if name not in asked and not mentioned(case, name)]
    if unread:
        yield Breach(
            f"{case.ref.target}, columns",
            f"the column '{unread[0]}' is declared, and neither fit, check, encode nor reference reads it",
            "a column that is not needed: every data set of a user must have it. Take it out of `columns`",
        )


def check_declared(case: Case, columns: dict[str, type], needed: tuple[str, ...]) -> Iterator[Breach]:
    """Compare the columns with those that prediction needs."""
    where = f"{case.ref.target}, columns"
    for name in needed:
        if name not in columns:
            near = did_you_mean(name, columns)
            yield Breach(
                where, f"prediction needs '{name}', which is not declared.{near}", "a typing error in one of both"
            )
    if set(needed) == set(columns):
        yield Breach(
            where,
            f"prediction needs every column ({', '.join(columns)}): none is left for the reference",
            "name the columns that prediction has in `input_columns`; by default they are all but `label` and `score`",
        )


def check_optional(case: Case, task: Task) -> Iterator[Breach]:
    """Compare the columns that prediction may have with those that every row has, and with what the code reads."""
    where = f"{case.ref.target}, optional_inputs"
    for name in task.optional_inputs:
        if name in task.columns:
            yield Breach(
                where, f"'{name}' is optional, and a column that every row must have", "leave it in one of both"
            )
        elif not mentioned(case, name):
            yield Breach(where, f"'{name}' is declared, and nothing reads it", "a typing error, or it is not needed")


def undeclared(case: Case, method: str, error: KeyError, columns: dict[str, type]) -> Breach:
    """Say which column was read and is not there."""
    name = str(error.args[0])
    declared = f"declared are {', '.join(columns)}"
    what = f"it reads '{name}', and {declared}.{did_you_mean(name, columns)}"
    return Breach(
        case.place(method), what, "the name of a column in `columns` and in the code differ, or `columns` lacks it"
    )


def mentioned(case: Case, name: str) -> bool:
    """Whether the author's code takes a column out of something: in a metric, say, or a method that was not called here."""
    return any(name in taken(ast.parse(file.read_text(encoding="utf-8"))) for file in case.source_files())


def taken(tree: ast.AST) -> set[str]:
    """Return the texts that stand in brackets or as an argument, as in `row["text"]` and `row.get("text")`."""
    keys = [node.slice for node in ast.walk(tree) if isinstance(node, ast.Subscript)]
    arguments = [one for node in ast.walk(tree) if isinstance(node, ast.Call) for one in node.args]
    return {one.value for one in (*keys, *arguments) if isinstance(one, ast.Constant) and isinstance(one.value, str)}
