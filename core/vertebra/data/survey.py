"""A survey of a data set as the model will see it: lengths, what is too long, labels, duplicates."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vertebra.data.encode import TooLong, encode_row, fit_context, with_progress
from vertebra.tasks.features import Features

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vertebra.tasks.task import Row, Task


@dataclass(frozen=True)
class Lengths:
    """How many tokens sequences have, before anything is cut."""

    total: int
    shortest: int
    median: int
    most: int
    """95 % of the sequences are no longer than this."""
    longest: int


@dataclass(frozen=True)
class SplitSurvey:
    """What is in a split."""

    rows: int
    sequences: int | None
    """Sequences after cutting; None where rows that are too long are an error."""
    lengths: Lengths
    too_long: int
    """Rows over the context."""
    labels: Counter[str]
    inputs: frozenset[str]
    """The different inputs, one text for each."""

    @property
    def repeated(self) -> int:
        """Rows whose input stands in the split before them."""
        return self.rows - len(self.inputs)


def survey_split(
    task: Task, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, context: int, policy: TooLong, title: str
) -> SplitSurvey:
    """Encode each row and count; a row that is too long is counted, even where a run would refuse it."""
    lengths: list[int] = []
    labels: Counter[str] = Counter()
    too_long = sequences = 0
    for row in with_progress(rows, title):
        pieces = encode_row(task, row, tokenizer)
        lengths += [len(piece) for piece in pieces]
        # What a run would refuse is counted here as if it were cut.
        fitted, over = fit_context(task, pieces, context, "truncate" if policy == "error" else policy, row)
        too_long += over
        sequences += len(fitted)
        labels.update(task.labels_of(row))
    return SplitSurvey(
        rows=len(rows),
        sequences=None if too_long and policy == "error" else sequences,
        lengths=_lengths(lengths),
        too_long=too_long,
        labels=labels,
        inputs=frozenset(input_of(task, row) for row in rows),
    )


def input_of(task: Task, row: Row) -> str:
    """Return a row's input as one text: equal for rows that the model cannot tell apart."""
    return json.dumps([row[column] for column in task.needed_for_prediction()], default=repr)


def shown_tokens(task: Task, row: Row, features: Features, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, str]]:
    """Return (token, label) pairs to show, with the tokenizer's own tokens as readable text.

    A space at the front is shown as `␣`, and a token that ends inside a character as `…`: the character itself stands
    where it is complete.
    """
    pairs = task.describe(row, features, tokenizer)
    tokens = [token for token, _ in pairs]
    if tokens != tokenizer.convert_ids_to_tokens(features.input_ids.tolist()):
        return pairs  # the task has its own way to show them
    return list(zip(_readable(tokens, tokenizer), [label for _, label in pairs], strict=True))


def _readable(tokens: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    shown = []
    waiting: list[str] = []
    for token in tokens:
        waiting.append(token)
        text = tokenizer.convert_tokens_to_string(waiting)
        if text.endswith("\ufffd") and len(waiting) < 4:  # a character has at most four bytes
            shown.append("…")
            continue
        shown.append(text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥") or token)
        waiting = []
    return shown


def _lengths(lengths: list[int]) -> Lengths:
    values = np.asarray(lengths)
    median, most = np.percentile(values, [50, 95], method="inverted_cdf")
    return Lengths(int(values.sum()), int(values.min()), int(median), int(most), int(values.max()))
