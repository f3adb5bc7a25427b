"""The worst errors: which predictions to show, and how they differ from their references, whatever the task is."""

from __future__ import annotations

import difflib
import heapq
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_TEXT = 1500
"""Characters of a text that are shown."""
LONGEST_DIFF = 600
"""Words of a text that are compared one by one."""


@dataclass(frozen=True)
class Fragment:
    """A part of a prediction or a reference, and whether the other side lacks it."""

    text: str
    differs: bool


@dataclass(frozen=True)
class Token:
    """One token of the input with its label in the reference and in the prediction."""

    text: str
    reference: str
    prediction: str

    @property
    def differs(self) -> bool:
        """Whether the prediction is wrong here."""
        return self.reference != self.prediction


@dataclass(frozen=True)
class Example:
    """One wrong prediction: aligned `tokens` where the labels stand against tokens, else two sides of fragments."""

    id: str
    score: float | None
    inputs: tuple[tuple[str, str], ...]
    """(column, text) of what the model read, but for the column that the tokens show."""
    tokens: tuple[Token, ...]
    reference: tuple[Fragment, ...]
    prediction: tuple[Fragment, ...]
    lines: bool
    """Whether each fragment stands on a line of its own."""


@dataclass(frozen=True)
class WorstErrors:
    """The lowest-scoring wrong predictions, and of how many."""

    examples: tuple[Example, ...]
    wrong: int
    total: int
    common_label: str | None
    """The label of most tokens, which is not written where it is right; None where there is no such label."""


def worst_errors(
    predictions: Iterable[Mapping[str, Any]], at_most: int = 20, higher_is_better: bool = True
) -> WorstErrors:
    """Choose the worst of the lines of `predictions.jsonl`; reads them once and holds only those it shows.

    Only wrong predictions count: those that their task does not call right; among equal scores, more differences are worse.
    """
    seen: Counter[str] = Counter()

    def wrong() -> Iterable[Mapping[str, Any]]:
        for line in predictions:
            seen["total"] += 1
            if not line.get("right", line["prediction"] == line["reference"]):
                seen["wrong"] += 1
                yield line

    def badness(line: Mapping[str, Any]) -> tuple[float, int]:
        score = line.get("score") or 0.0
        return (score if higher_is_better else -score), -differences(line["prediction"], line["reference"])

    examples = tuple(make_example(line) for line in heapq.nsmallest(at_most, wrong(), key=badness))
    return WorstErrors(examples, seen["wrong"], seen["total"], common_label(examples))


def differences(prediction: Any, reference: Any) -> int:
    """Count the places where two lists of equal length differ; other unequal values count as one."""
    if isinstance(prediction, list) and isinstance(reference, list) and len(prediction) == len(reference):
        return sum(one != other for one, other in zip(prediction, reference, strict=True))
    return int(prediction != reference)


def common_label(examples: Iterable[Example]) -> str | None:
    """Return the reference label of more than half of all tokens shown, if there is one."""
    labels = Counter(token.reference for example in examples for token in example.tokens)
    if not labels:
        return None
    label, times = labels.most_common(1)[0]
    return label if times > labels.total() / 2 else None


def make_example(line: Mapping[str, Any]) -> Example:
    """Prepare one line of `predictions.jsonl` for display."""
    inputs, prediction, reference = dict(line["input"]), line["prediction"], line["reference"]
    column = aligned_column(inputs, prediction, reference)
    tokens: tuple[Token, ...] = ()
    sides: tuple[tuple[Fragment, ...], tuple[Fragment, ...]] = ((), ())
    if column is None:
        sides = compare(reference, prediction)
    else:
        tokens = tuple(
            Token(str(text), *labels) for text, *labels in zip(inputs.pop(column), reference, prediction, strict=True)
        )
    return Example(
        id=str(line["id"]),
        score=line.get("score"),
        inputs=tuple((name, shown(value)) for name, value in inputs.items()),
        tokens=tokens,
        reference=sides[0],
        prediction=sides[1],
        lines=isinstance(reference, (dict, list)),
    )


def aligned_column(inputs: Mapping[str, Any], prediction: Any, reference: Any) -> str | None:
    """Return the input column whose items the labels stand against: lists of strings, all three of one length."""
    if not (is_labels(prediction) and is_labels(reference) and len(prediction) == len(reference)):
        return None
    fits = (name for name, value in inputs.items() if isinstance(value, list) and len(value) == len(reference))
    return next(fits, None)


def is_labels(value: Any) -> bool:
    """Whether a value is a list of strings that is not empty."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def compare(one: Any, other: Any) -> tuple[tuple[Fragment, ...], tuple[Fragment, ...]]:
    """Return both values as fragments that say where they differ: words of texts, keys of objects, items of lists.

    Keys that only the other object has are more than was asked, and no difference.
    """
    if isinstance(one, str) and isinstance(other, str):
        return compare_texts(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        asked = {name: value for name, value in other.items() if name in one}
        beside = [Fragment(pair, False) for pair in _pairs({name: other[name] for name in other if name not in one})]
        return _only_in(_pairs(one), _pairs(other)), (*_only_in(_pairs(asked), _pairs(one)), *beside)
    if isinstance(one, list) and isinstance(other, list):
        ones, others = [shown(item) for item in one], [shown(item) for item in other]
        return _only_in(ones, others), _only_in(others, ones)
    return (Fragment(shown(one), True),), (Fragment(shown(other), True),)


def compare_texts(one: str, other: str) -> tuple[tuple[Fragment, ...], tuple[Fragment, ...]]:
    """Compare two texts word by word; a character that is written without spaces is a word."""
    words, other_words = _words(one), _words(other)
    if max(len(words), len(other_words)) > LONGEST_DIFF:
        return (Fragment(shown(one), True),), (Fragment(shown(other), True),)
    ours: list[Fragment] = []
    theirs: list[Fragment] = []
    matcher = difflib.SequenceMatcher(None, words, other_words, autojunk=False)
    for tag, start, end, other_start, other_end in matcher.get_opcodes():
        if end > start:
            ours.append(Fragment("".join(words[start:end]), tag != "equal"))
        if other_end > other_start:
            theirs.append(Fragment("".join(other_words[other_start:other_end]), tag != "equal"))
    return tuple(ours), tuple(theirs)


def shown(value: Any) -> str:
    """Write any JSON value for people, long ones cut: texts as they are, a list of texts with spaces between them."""
    if is_labels(value):
        text = " ".join(value)
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    left = len(text) - LONGEST_TEXT
    return text if left <= 0 else f"{text[:LONGEST_TEXT]} … ({left:,} characters more)"


def _pairs(value: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {shown(item)}" for name, item in value.items()]


def _only_in(ours: Sequence[str], theirs: Sequence[str]) -> tuple[Fragment, ...]:
    return tuple(Fragment(item, item not in theirs) for item in ours)


def _words(text: str) -> list[str]:
    return re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|\s+|[^\w\s]", text)
