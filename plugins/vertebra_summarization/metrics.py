"""Scores of summaries: ROUGE by rouge-score, and what it does not see.

A reference is a text or a list of texts. As in rouge-score, a prediction counts by the reference that it is nearest to.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar, Self

from vertebra.metrics.metric import Counts, Mean, Metric
from vertebra.tasks.task import Row, Task
from vertebra_summarization.words import Tokenizer, Words


def texts(reference: str | list[str]) -> list[str]:
    """Return the references as a list."""
    return [reference] if isinstance(reference, str) else reference


class Rouge(Mean):
    """The mean F-measure of ROUGE over rows (Lin 2004), from rouge-score with stems."""

    kind: ClassVar[str]
    """What rouge-score calls it."""

    def __init__(self, language: str = "auto") -> None:
        from rouge_score.rouge_scorer import RougeScorer

        self._words = Words(language)
        self._scorers: dict[Tokenizer, Any] = {
            one: RougeScorer([self.kind], tokenizer=one) for one in self._words.tokenizers
        }

    @classmethod
    def for_task(cls, task: Task) -> Self:
        """Return the score for the language of the task."""
        return cls(getattr(task.config, "language", "auto"))

    def value(self, prediction: str, reference: str | list[str]) -> float:
        """Return the F-measure with the nearest reference."""
        return max(self._with(one, prediction) for one in texts(reference))

    def _with(self, reference: str, prediction: str) -> float:
        scorer = self._scorers[self._words.tokenizer_for(reference, prediction)]
        return float(scorer.score(reference, prediction)[self.kind].fmeasure)


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
        written, *wanted = map(len, self._words.tokenize(prediction, *texts(reference)))
        return written, sum(wanted) / len(wanted)


class NovelBigrams(ByWords):
    """The share of a summary's pairs of words that the document does not have: 0 where all is copied."""

    name: ClassVar[str] = "novel_bigrams"

    def count(self, prediction: str, reference: str | list[str]) -> tuple[float, ...]:
        """Return (0, 0): without the document nothing can be said."""
        return 0.0, 0.0

    def count_row(self, row: Row, prediction: str, reference: str | list[str]) -> tuple[float, ...]:
        """Return (new pairs, pairs)."""
        words = self._words.tokenize(prediction, row["document"])
        pairs, copied = (set(itertools.pairwise(one)) for one in words)
        return len(pairs - copied), len(pairs)
