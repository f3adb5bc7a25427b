"""Scores of one label of an ordered scale: how far off a prediction is counts, in steps of the scale.

Predictions and references are `{"label"}`; the scale is the task's `labels`, in their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from vertebra.metrics.metric import Counts, Metric

if TYPE_CHECKING:
    from vertebra.tasks.task import Task

Labelled = dict[str, Any]


class Steps(Metric):
    """What one example adds: the places of its true label and of the predicted one on the scale, from 0."""

    def __init__(self, task: Task) -> None:
        self.task = task  # what it learns, it may learn later

    @classmethod
    def for_task(cls, task: Task) -> Self:
        """Return the metric over the task's scale."""
        return cls(task)

    def count(self, prediction: Labelled, reference: Labelled) -> tuple[float, ...]:
        """Return (true, predicted)."""
        labels: list[str] = self.task.labels  # type: ignore[attr-defined]  # of a task that classifies
        return labels.index(reference["label"]), labels.index(prediction["label"])


class MeanAbsoluteError(Steps):
    """The mean number of steps between the predicted label and the true one."""

    name: ClassVar[str] = "mean_absolute_error"
    higher_is_better: ClassVar[bool] = False

    def score(self, counts_EK: Counts) -> float:
        """Return the mean distance."""
        return float(np.abs(counts_EK[:, 0] - counts_EK[:, 1]).mean()) if len(counts_EK) else 0.0


class QuadraticKappa(Steps):
    """Cohen's kappa with quadratic weights: 1 is perfect, 0 no better than chance (Cohen, 1968, "Weighted kappa")."""

    name: ClassVar[str] = "quadratic_kappa"

    def score(self, counts_EK: Counts) -> float:
        """Return 1 − squared steps ÷ those of labels drawn at random; 0.0 where all labels are one."""
        if not len(counts_EK):
            return 0.0
        true_E, predicted_E = counts_EK.T
        by_chance = true_E.var() + predicted_E.var() + (true_E.mean() - predicted_E.mean()) ** 2
        return float(1 - ((true_E - predicted_E) ** 2).mean() / by_chance) if by_chance > 0 else 0.0
