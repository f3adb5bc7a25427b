"""Scores of full rankings: every item of the catalogue that the user has not seen is a candidate.

Predictions are those of `recommend`; a reference is the item that came next, with `cold` (it stands in no training
history) and `taken` (how often it stands there). Ties count as their expected value over all orders.
"""

from __future__ import annotations

from math import log1p
from typing import Any, ClassVar, Self

import numpy as np

from vertebra.metrics.metric import Counts, Mean, Metric
from vertebra.tasks.task import Task
from vertebra_recommendation.catalogue import Catalogue
from vertebra_recommendation.ranks import TOP, hit_rate, ndcg, reciprocal

Prediction = dict[str, Any]


class NDCG(Mean):
    """1 / log2(1 + place) where the next item is among the first `k`, else 0: NDCG with one right item."""

    k: ClassVar[int]
    ranking: ClassVar[str] = "rank"
    """Which rank of a prediction is scored."""

    def value(self, prediction: Prediction, reference: Any) -> float:
        """Return this row's NDCG@k."""
        return ndcg(prediction[self.ranking], self.k)


class HitRate(Mean):
    """How often the next item is among the first `k`."""

    k: ClassVar[int]
    ranking: ClassVar[str] = "rank"
    """Which rank of a prediction is scored."""

    def value(self, prediction: Prediction, reference: Any) -> float:
        """Return 1 or 0, or the probability of it among ties."""
        return hit_rate(prediction[self.ranking], self.k)


class NDCGAt5(NDCG):
    """NDCG@5."""

    name, k = "ndcg_at_5", 5


class NDCGAt10(NDCG):
    """NDCG@10."""

    name, k = "ndcg_at_10", 10


class NDCGAt20(NDCG):
    """NDCG@20."""

    name, k = "ndcg_at_20", 20


class HRAt1(HitRate):
    """HR@1, which is NDCG@1 as well."""

    name, k = "hr_at_1", 1


class HRAt5(HitRate):
    """HR@5."""

    name, k = "hr_at_5", 5


class HRAt10(HitRate):
    """HR@10."""

    name, k = "hr_at_10", 10


class HRAt20(HitRate):
    """HR@20."""

    name, k = "hr_at_20", 20


class MRRFull(Mean):
    """The mean of 1 / place, over the whole ranking."""

    name: ClassVar[str] = "mrr_full"

    def value(self, prediction: Prediction, reference: Any) -> float:
        """Return this row's reciprocal rank."""
        return reciprocal(prediction["rank"])


class NDCGAt10Sampled100(NDCGAt10):
    """NDCG@10 among 100 random unseen items: not comparable with the full ranking (Krichene and Rendle 2020)."""

    name, ranking = "ndcg_at_10_sampled_100", "rank_sampled"


class HRAt10Sampled100(HRAt10):
    """HR@10 among 100 random unseen items: not comparable with the full ranking (Krichene and Rendle 2020)."""

    name, ranking = "hr_at_10_sampled_100", "rank_sampled"


class OfColdItems(Metric):
    """A score over the rows alone whose next item stands in no training history; 0 where there is none."""

    def score(self, counts_EK: Counts) -> float:
        """Return the mean over the rows of cold items."""
        total, rows = counts_EK.sum(axis=0)
        return float(total / rows) if rows else 0.0


class ColdNDCGAt10(OfColdItems):
    """NDCG@10, in the full ranking, where the next item stands in no training history."""

    name: ClassVar[str] = "cold_ndcg_at_10"

    def count(self, prediction: Prediction, reference: Any) -> tuple[float, ...]:
        """Return (NDCG@10, 1) for a cold item, else zeros."""
        return (ndcg(prediction["rank"]), 1) if reference["cold"] else (0, 0)


class ColdHRAt10(OfColdItems):
    """HR@10, in the full ranking, where the next item stands in no training history."""

    name: ClassVar[str] = "cold_hr_at_10"

    def count(self, prediction: Prediction, reference: Any) -> tuple[float, ...]:
        """Return (HR@10, 1) for a cold item, else zeros."""
        return (hit_rate(prediction["rank"]), 1) if reference["cold"] else (0, 0)


class OfCatalogue(Metric):
    """A metric that knows the task's catalogue; the task is fitted when rows are counted."""

    task: Task

    @classmethod
    def for_task(cls, task: Task) -> Self:
        """Return the metric for a recommendation task."""
        metric = cls()
        metric.task = task
        return metric

    @property
    def catalogue(self) -> Catalogue:
        """The task's catalogue."""
        catalogue: Catalogue = self.task.catalogue  # type: ignore[attr-defined]  # of Recommendation alone
        return catalogue

    def numbers(self, prediction: Prediction) -> list[int]:
        """Return the numbers of the recommended items."""
        return self.catalogue.find(one["item"] for one in prediction["items"])


class CoverageAt10(OfCatalogue):
    """The share of the catalogue that is among the first ten of at least one user."""

    name: ClassVar[str] = "coverage_at_10"

    def count(self, prediction: Prediction, reference: Any) -> tuple[float, ...]:
        """Return the numbers of the ten items; -1 where there are fewer."""
        numbers = self.numbers(prediction)
        return (*numbers, *[-1] * (TOP - len(numbers)))

    def score(self, counts_EK: Counts) -> float:
        """Return different items ÷ items of the catalogue."""
        different = np.unique(counts_EK)
        return float((different >= 0).sum() / max(1, len(self.catalogue)))


class PopularityBias(OfCatalogue):
    """How much more popular the first ten are than what users take: the difference of the means of log(1 + times taken)."""

    name: ClassVar[str] = "popularity_bias"
    higher_is_better: ClassVar[bool] = False

    def count(self, prediction: Prediction, reference: Any) -> tuple[float, ...]:
        """Return (mean over the recommended items, that of the next item)."""
        numbers = self.numbers(prediction)
        recommended = float(np.log1p(self.catalogue.counts[numbers]).mean()) if numbers else 0.0
        return recommended, log1p(reference["taken"])

    def score(self, counts_EK: Counts) -> float:
        """Return recommended − taken; 0 is no bias."""
        if not len(counts_EK):
            return 0.0
        recommended, taken = counts_EK.mean(axis=0)
        return float(recommended - taken)
