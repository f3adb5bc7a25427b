"""Scores of any number of labels for each example; predictions and references are `{"labels": [...]}`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from vertebra.metrics.metric import Counts, Mean, Metric

if TYPE_CHECKING:
    from vertebra.tasks.task import Task

Labelled = dict[str, Any]


class MultilabelMicroF1(Metric):
    """F1 over all labels of all examples together."""

    name: ClassVar[str] = "multilabel_micro_f1"

    def count(self, prediction: Labelled, reference: Labelled) -> tuple[float, ...]:
        """Return (right, predicted, true)."""
        predicted, true = set(prediction["labels"]), set(reference["labels"])
        return len(predicted & true), len(predicted), len(true)

    def score(self, counts_EK: Counts) -> float:
        """Return 2 · right ÷ (predicted + true)."""
        right, predicted, true = counts_EK.sum(axis=0)
        return float(2 * right / (predicted + true)) if predicted + true else 0.0


class MultilabelMacroF1(Metric):
    """The mean over labels of the F1 of each; over those that occur among predictions or references.

    The labels are the task's `labels`; all others, which it cannot predict, are one label more.
    """

    name: ClassVar[str] = "multilabel_macro_f1"

    def __init__(self, task: Task) -> None:
        self.task = task  # what it learns, it may learn later

    @classmethod
    def for_task(cls, task: Task) -> Self:
        """Return the metric over the task's labels."""
        return cls(task)

    def count(self, prediction: Labelled, reference: Labelled) -> tuple[float, ...]:
        """Return (right, predicted, true) of each label, one after the other."""
        labels: list[str] = self.task.labels  # type: ignore[attr-defined]  # of a task that classifies
        predicted, true = set(prediction["labels"]), set(reference["labels"])
        counts = [one for label in labels for one in (label in predicted & true, label in predicted, label in true)]
        return *map(float, counts), 0.0, 0.0, float(not true.issubset(labels))

    def score(self, counts_EK: Counts) -> float:
        """Return the mean of 2 · right ÷ (predicted + true)."""
        right, predicted, true = counts_EK.sum(axis=0).reshape(-1, 3).T
        there = predicted + true > 0
        return float((2 * right[there] / (predicted + true)[there]).mean()) if there.any() else 0.0


class SubsetAccuracy(Mean):
    """The share of examples whose labels are all right, none too many and none too few."""

    name: ClassVar[str] = "subset_accuracy"

    def value(self, prediction: Labelled, reference: Labelled) -> float:
        """Return 1 for the right set of labels, else 0."""
        return float(set(prediction["labels"]) == set(reference["labels"]))
