"""Baselines that count words: spans near the question's words, and candidates that share words with the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vertebra.tasks.answers import answers_of
from vertebra.tasks.baseline import Baseline
from vertebra.tasks.ranking import candidate_of
from vertebra.tasks.span_extraction import SpanExtraction, best_threshold
from vertebra.tasks.task import Row, Task
from vertebra_qa.lexical import Rarity, Span, shared_with, word_spans, words_of

LENGTHS = (1, 2, 3, 4, 6, 8)
RADII = (5, 10, 20)
TRIED = 1000
"""Validation rows on which length and radius are chosen."""
SENTENCE_ENDS = frozenset(".!?。！？")


@dataclass(frozen=True)
class _Context:
    """A context of W words."""

    spans: list[Span]
    words: list[str]
    sentence_end_W: NDArray[np.int64]
    """For each word the number of the word behind its sentence."""
    common_W: NDArray[np.bool_]


class WordOverlap(Baseline):
    """The span with the most of the question's words near it.

    In the manner of the sliding window of Richardson et al. (MCTest, EMNLP 2013), the baseline of the SQuAD paper too:
    each word of the question counts by how rare it is among the training contexts, and by how near it stands: 1 − d / (r + 1)
    at a distance of d words, up to r. A span is worth what is near its first and near its last word. It stays in one
    sentence, has no word of the question, and neither begins nor ends with a common word. All spans have one length; it
    and r are those that do best on validation. So is the least worth for which an answer is given, where training has
    questions without one.
    """

    name: ClassVar[str] = "word overlap"
    summary: ClassVar[str] = "the span with the most of the question's words near it, by their rarity and distance"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        assert isinstance(task, SpanExtraction)
        self.qa = task
        self.length, self.radius, self.least = 2, 10, -np.inf

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        """Count the words of the training contexts; choose length, radius and least worth on validation rows."""
        self.rarity = Rarity(dict.fromkeys(row["context"] for row in train))
        self._contexts: dict[str, _Context] = {}
        tried = [row for row in valid if answers_of(row)][:TRIED] or [row for row in train if answers_of(row)][:TRIED]
        scores = {settings: self._score(tried, *settings) for settings in product(LENGTHS, RADII)}
        self.length, self.radius = max(scores, key=lambda settings: scores[settings])
        if self.qa.unanswerable and valid:
            found = [self._best(row, self.length, self.radius) for row in valid]
            gains = [self._gain(row, span) for row, (_, span) in zip(valid, found, strict=True)]
            self.least = -best_threshold([-worth for worth, _ in found], gains)

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """Return the best span of each row, or the empty text where it is not worth enough."""
        return [self._prediction(row, *self._best(row, self.length, self.radius)) for row in rows]

    def _prediction(self, row: Row, worth: float, span: Span) -> dict[str, Any]:
        start, end = span
        if worth < self.least or start == end:
            return {"text": "", "start": None, "end": None}
        return {"text": row["context"][start:end], "start": start, "end": end}

    def _score(self, rows: Sequence[Row], length: int, radius: int) -> float:
        return sum(self._gain(row, self._best(row, length, radius)[1]) for row in rows)

    def _gain(self, row: Row, span: Span) -> float:
        answers = [answer.text for answer in answers_of(row)]
        return self.qa.agreement(row["context"][slice(*span)], answers) if answers else -1.0

    def _best(self, row: Row, length: int, radius: int) -> tuple[float, Span]:
        """Return the best span of a row, in characters, and its worth; an empty span where there is none."""
        context = self._read(row["context"])
        asked = {word: self.rarity[word] for word in words_of(row["question"])}
        weight_W = np.asarray([asked.get(word, 0.0) for word in context.words])
        near = 1 - np.abs(np.arange(-radius, radius + 1)) / (radius + 1)
        near_W = np.convolve(weight_W, near)[radius : radius + len(weight_W)]
        length = min(length, len(weight_W))
        first_S = np.arange(len(weight_W) - length + 1)
        last_S = first_S + length - 1
        asked_W1 = np.concatenate([[0], np.cumsum(weight_W > 0)])
        allowed_S = (
            (last_S < context.sentence_end_W[first_S])
            & (asked_W1[last_S + 1] == asked_W1[first_S])
            & ~(context.common_W[first_S] | context.common_W[last_S])
        )
        if not allowed_S.any():
            return -np.inf, (0, 0)
        worth_S = np.where(allowed_S, near_W[first_S] + near_W[last_S], -np.inf)
        best = int(worth_S.argmax())
        return float(worth_S[best]), (context.spans[best][0], context.spans[best + length - 1][1])

    def _read(self, text: str) -> _Context:
        if text not in self._contexts:
            spans = word_spans(text)
            words = [text[start:end].lower() for start, end in spans]
            ends = [number + 1 for number, word in enumerate(words) if word in SENTENCE_ENDS]
            edges = sorted({0, *ends, len(words)})
            sizes = [after - before for before, after in pairwise(edges)]
            common = np.asarray([self.rarity.is_common(word) for word in words], dtype=bool)
            self._contexts[text] = _Context(spans, words, np.repeat(edges[1:], sizes), common)
        return self._contexts[text]


class SharedWords(Baseline):
    """Candidates in the order of the words that they share with the query, each counted once, by how rare it is."""

    name: ClassVar[str] = "shared words"
    summary: ClassVar[str] = "candidates by the words that they share with the question, weighted by their rarity"

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        """Count the words of the training candidates."""
        self.rarity = Rarity(candidate for row in train for candidate in row["candidates"])

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """Return the ranking of each row's candidates."""
        return [self._ranked(row) for row in rows]

    def _ranked(self, row: Row) -> list[dict[str, Any]]:
        scores = [rare for _, rare in shared_with(row["query"], row["candidates"], self.rarity)]
        order = sorted(range(len(scores)), key=lambda place: -scores[place])
        return [candidate_of(row, place) | {"score": scores[place]} for place in order]
