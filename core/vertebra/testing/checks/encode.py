"""Whether the same rows give the same state and features: for a second task, and in another process."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vertebra.data.encode import encode_row
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.features import Features
from vertebra.tasks.task import Row, Task
from vertebra.testing.breaches import Breach, DoesNotApplyError
from vertebra.testing.case import Case
from vertebra.testing.likeness import brief

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CAUSE = (
    "something is drawn at random, counted from call to call, taken from the time, or from the order of a set: make it a "
    "function of the row, and sort what comes from a set"
)


def check(case: Case) -> Iterator[Breach]:
    """Fit two tasks, encode each row twice with one and once with the other, and without its reference."""
    prepared, model = case.prepared
    if isinstance(prepared.task, CorpusTask):
        raise DoesNotApplyError("a corpus is cut into windows by the core")
    tokenizer = model.backbone.tokenizer
    one, other = (case.fitted(case.unread()) for _ in range(2))
    if one.state() != other.state():
        yield Breach(case.place("fit"), "two tasks that saw the same rows have learnt different things", CAUSE)
        return
    rows = case.unread()
    for row in rows:
        before = copy.deepcopy(row)
        first = encode_row(one, row, tokenizer)
        if row != before:
            changed = next(key for key in {**row, **before} if row.get(key) != before.get(key))
            what = f"row '{before['id']}' has another '{changed}' after it was encoded"
            yield Breach(case.place("encode"), what, "the row is changed in place: copy what is changed")
            return
        for again in (encode_row(one, row, tokenizer), encode_row(other, row, tokenizer)):
            if difference := unlike(first, again):
                what = f"row '{row['id']}' encoded again has other {difference}"
                yield Breach(case.place("encode"), what, CAUSE)
                return
    yield from check_prediction(case, one, rows[0], tokenizer)


def check_prediction(case: Case, task: Task, row: Row, tokenizer: PreTrainedTokenizerBase) -> Iterator[Breach]:
    """Check and encode a row as prediction has it: with the columns that prediction needs, and without any target."""
    only = {name: row[name] for name in ("id", *task.needed_for_prediction())}
    try:
        task.check(only)
    except Exception as error:
        yield Breach(
            case.place("check"),
            f"a row for prediction, which has {brief(list(only))}, stops it with {type(error).__name__}: {error}",
            "`check` reads a column of the reference, which rows to predict on do not have: look whether it is there",
        )
        return
    try:
        pieces = encode_row(task, only, tokenizer)
    except Exception as error:
        yield Breach(
            case.place("encode"),
            f"a row for prediction, which has {brief(list(only))}, stops it with {type(error).__name__}: {error}",
            "`encode` reads a column of the reference that prediction does not have: `row.get(...)`, and `target=None` "
            "where it is missing; or `input_columns` leaves out what prediction needs",
        )
        return
    if any(piece.target is not None for piece in pieces):
        yield Breach(
            case.place("encode"),
            "a row for prediction, without its reference, gets a target",
            "where the reference is missing, `encode` makes one up: return `target=None`",
        )


def unlike(some: Sequence[Features], others: Sequence[Features]) -> str:
    """Return which parts of features differ, or an empty text."""
    if len(some) != len(others):
        return "sequences"
    for one, other in zip(some, others, strict=True):
        parts = {
            "tokens": one.input_ids.tolist() == other.input_ids.tolist(),
            "positions": one.positions.tolist() == other.positions.tolist(),
            "targets": str(one.target) == str(other.target),
            "notes": one.note == other.note,
        }
        if differing := [name for name, same in parts.items() if not same]:
            return " and ".join(differing)
    return ""
