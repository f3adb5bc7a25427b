"""Scores of rankings, over the queries that have at least one right candidate; ties count as in `vertebra.metrics.ranking`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from vertebra.metrics.metric import Counts, Metric
from vertebra.metrics.ranking import average_precision, precision_at, reciprocal_rank


class RankingMetric(Metric):
    """The mean of one number for each query that has a right candidate."""

    @abstractmethod
    def value(self, relevant: Sequence[bool], scores: Sequence[float]) -> float:
        """Return the number of one query."""

    def count(self, prediction: Any, reference: Any) -> tuple[float, ...]:
        """Return (value, 1), or (0, 0) for a query without a right candidate."""
        right = {one["candidate"] for one in reference}
        if not right:
            return 0.0, 0.0
        relevant = [one["candidate"] in right for one in prediction]
        return self.value(relevant, [one["score"] for one in prediction]), 1.0

    def score(self, counts_EK: Counts) -> float:
        """Return the mean."""
        total, queries = counts_EK.sum(axis=0)
        return float(total / queries) if queries else 0.0


class MeanAveragePrecision(RankingMetric):
    """The mean of the average precision."""

    name: ClassVar[str] = "answer_map"

    def value(self, relevant: Sequence[bool], scores: Sequence[float]) -> float:
        """Return the average precision."""
        return average_precision(relevant, scores)


class MeanReciprocalRank(RankingMetric):
    """The mean of one over the rank of the first right candidate."""

    name: ClassVar[str] = "answer_mrr"

    def value(self, relevant: Sequence[bool], scores: Sequence[float]) -> float:
        """Return the reciprocal rank."""
        return reciprocal_rank(relevant, scores)


class PrecisionAt1(RankingMetric):
    """The share of queries whose first candidate is right."""

    name: ClassVar[str] = "answer_p_at_1"

    def value(self, relevant: Sequence[bool], scores: Sequence[float]) -> float:
        """Return the precision at the first place."""
        return precision_at(1, relevant, scores)
