"""Scores of summaries: ROUGE by rouge-score, and what it does not see.

A reference is a text or a list of texts. As in rouge-score, a prediction counts by the reference that it is nearest to.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar, Self

from vertebra.metrics.metric import Counts, Mean, Metric
from vertebra.tasks.task import Row, Task
from vertebra_summarization.words import Words


def texts(reference: str | list[str]) -> list[str]:
    """Return the references as a list."""
    return [reference] if isinstance(reference, str) else reference


class Rouge(Mean):
    """The mean F-measure of ROUGE over rows (Lin 2004), from rouge-score with stems."""

    kind: ClassVar[str]
    """What rouge-score calls it."""

    def __init__(self, language: str = "auto") -> None:
        from rouge_score.rouge_scorer import RougeScorer

        self._scorer: Any = RougeScorer([self.kind], tokenizer=Words(language))

    @classmethod
    def for_task(cls, task: Task) -> Self:
        """Return the score for the language of the task."""
        return cls(getattr(task.config, "language", "auto"))

    def value(self, prediction: str, reference: str | list[str]) -> float:
        """Return the F-measure with the nearest reference."""
        return max(float(self._scorer.score(one, prediction)[self.kind].fmeasure) for one in texts(reference))


class Rouge1(Rouge):
    """Words in common."""

    name: ClassVar[str] = "rouge1"
    kind: ClassVar[str] = "rouge1"


class Rouge2(Rouge):
    """Pairs of neighbouring words in common."""

    name: ClassVar[str] = "rouge2"
    kind: ClassVar[str] = "rouge2"


class RougeL(Rouge):
    """The longest sequence of words in common, in one order but with gaps."""

    name: ClassVar[str] = "rougeL"
    kind: ClassVar[str] = "rougeL"


class ByWords(Metric):
    """A metric that counts words as ROUGE has them."""

    def __init__(self, language: str = "auto") -> None:
        self._words = Words(language)

    @classmethod
    def for_task(cls, task: Task) -> Self:
        """Return the metric for the language of the task."""
        return cls(getattr(task.config, "language", "auto"))

    def score(self, counts_EK: Counts) -> float:
        """Return the sum of the first numbers over the sum of the second ones."""
        part, whole = counts_EK.sum(axis=0)
        return float(part / whole) if whole else 0.0


class SummaryLengthRatio(ByWords):
    """Words written for each word of the references (of their mean, where there are several): 1 is as long as they are."""

    name: ClassVar[str] = "summary_length_ratio"

    def count(self, prediction: str, reference: str | list[str]) -> tuple[float, ...]:
        """Return (words written, words of the references)."""
        lengths = [len(self._words.tokenize(one)) for one in texts(reference)]
        return len(self._words.tokenize(prediction)), sum(lengths) / len(lengths)


class NovelBigrams(ByWords):
    """The share of a summary's pairs of words that the document does not have: 0 where all is copied."""

    name: ClassVar[str] = "novel_bigrams"

    def count(self, prediction: str, reference: str | list[str]) -> tuple[float, ...]:
        """Return (0, 0): without the document nothing can be said."""
        return 0.0, 0.0

    def count_row(self, row: Row, prediction: str, reference: str | list[str]) -> tuple[float, ...]:
        """Return (new pairs, pairs)."""
        pairs = self._pairs(prediction)
        return len(pairs - self._pairs(row["document"])), len(pairs)

    def _pairs(self, text: str) -> set[tuple[str, str]]:
        words = self._words.tokenize(text)
        return set(itertools.pairwise(words))
