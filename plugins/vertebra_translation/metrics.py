"""Scores of translations, from sacrebleu, as fractions: 0.28 is what others call 28 BLEU.

What a row adds are the counts that the score of a corpus is made of, so that a score of many rows is that of the corpus and no
mean over sentences. With several directions the score is the mean of theirs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from vertebra.errors import DataError
from vertebra.metrics.metric import Counts, Metric
from vertebra.tasks.task import Task
from vertebra_translation.languages import languages_of

TOKENIZERS = {"zh": "zh", "ja": "char"}
"""What BLEU cuts a language with; by default 13a, that of WMT's mteval. sacrebleu's own for Japanese needs MeCab."""
ORDERS = 4
"""The longest n-grams of BLEU."""


def translations(value: str | dict[str, str], directions: Sequence[str]) -> list[str]:
    """Return the text of each direction, in their order; `DataError` where `value` has others.

    A text without a direction is of the only one. A mapping's own order says nothing: a file may have any.
    """
    if isinstance(value, str):
        value = {directions[0]: value}
    if set(value) != set(directions):
        raise DataError(f"it has {', '.join(value) or 'nothing'}, and the directions are {', '.join(directions)}")
    return [value[one] for one in directions]


class CorpusMetric(Metric):
    """A score of a corpus, for each direction."""

    def __init__(self, directions: Sequence[str] = ("en-de",)) -> None:
        self.directions = tuple(directions)

    @classmethod
    def for_task(cls, task: Task) -> Self:
        """Return the score for the directions of the task."""
        return cls(getattr(task, "directions", ("en-de",)))

    def count(self, prediction: str | dict[str, str], reference: str | dict[str, str]) -> tuple[float, ...]:
        """Return what this row adds for each direction, one behind the other; `DataError` where it lacks one."""
        sides = [translations(side, self.directions) for side in (prediction, reference)]
        return tuple(number for one in zip(self.directions, *sides, strict=True) for number in self.statistics(*one))

    def score(self, counts_EK: Counts) -> float:
        """Return the mean over directions."""
        if not len(counts_EK):
            return 0.0
        sums = np.split(counts_EK.sum(axis=0), len(self.directions))
        return float(np.mean([self.score_of(one.tolist()) for one in sums]))

    def score_texts(self, pairs: Sequence[tuple[str, str]]) -> float:
        """Return the score of pairs of a translation and its reference, in the first direction."""
        return self.score_of(np.sum([self.statistics(self.directions[0], *pair) for pair in pairs], axis=0).tolist())

    @abstractmethod
    def statistics(self, direction: str, prediction: str, reference: str) -> Sequence[float]:
        """Return the numbers that this translation adds."""

    @abstractmethod
    def score_of(self, sums: list[float]) -> float:
        """Return the score of a corpus."""


class Bleu(CorpusMetric):
    """The geometric mean of the shares of right n-grams up to 4, less where translations are too short (Papineni 2002).

    Where a corpus has no n-grams of an order, the orders that it has count alone (`effective_order`): a perfect translation of
    three words scores 1. On any corpus with a translation of four words this is sacrebleu's `corpus_score`.
    """

    name: ClassVar[str] = "bleu"

    def __init__(self, directions: Sequence[str] = ("en-de",)) -> None:
        from sacrebleu.metrics import BLEU

        super().__init__(directions)
        self._scorers: dict[str, Any] = {
            one: BLEU(tokenize=TOKENIZERS.get(languages_of(one)[1], "13a"), effective_order=True) for one in directions
        }

    @property
    def signature(self) -> str:
        """How sacrebleu describes the score, for the first direction."""
        scorer = self._scorers[self.directions[0]]
        scorer.num_refs = 1
        return str(scorer.get_signature())

    def statistics(self, direction: str, prediction: str, reference: str) -> Sequence[float]:
        """Return (length, length of the reference, right n-grams of 4 orders, n-grams of 4 orders)."""
        one = self._scorers[direction].sentence_score(prediction, [reference])
        return [one.sys_len, one.ref_len, *one.counts, *one.totals]

    def score_of(self, sums: list[float]) -> float:
        """Return BLEU."""
        from sacrebleu.metrics import BLEU

        lengths, right, total = sums[:2], sums[2 : 2 + ORDERS], sums[2 + ORDERS :]
        found = BLEU.compute_bleu(right, total, *map(int, lengths), smooth_method="exp", effective_order=True)
        return float(found.score) / 100


class ChrF(CorpusMetric):
    """The F-score, recall twice as heavy, of n-grams of characters up to 6 (Popović 2015)."""

    name: ClassVar[str] = "chrf"

    def __init__(self, directions: Sequence[str] = ("en-de",)) -> None:
        from sacrebleu.metrics import CHRF

        super().__init__(directions)
        self._scorer: Any = CHRF()

    def statistics(self, direction: str, prediction: str, reference: str) -> Sequence[float]:
        """Return for each order (n-grams, n-grams of the reference, n-grams in both)."""
        numbers: list[float] = self._scorer._extract_corpus_statistics([prediction], [[reference]])[0]
        return numbers

    def score_of(self, sums: list[float]) -> float:
        """Return chrF."""
        return float(self._scorer._compute_score_from_stats(sums).score) / 100


class TranslationLengthRatio(Bleu):
    """Tokens written for each token of the references: below 1 translations are too short."""

    name: ClassVar[str] = "translation_length_ratio"

    def score_of(self, sums: list[float]) -> float:
        """Return the length ÷ the references' length."""
        return sums[0] / sums[1] if sums[1] else 0.0
