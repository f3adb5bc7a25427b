"""Scores of one label for each example; predictions are `{"label", "probability"}`, references `{"label"}`.

Labels are numbered as they come, so that a label which only the references have counts like any other. The numbers are
those of scikit-learn, where it has the score.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from vertebra.metrics.metric import Counts, Mean, Metric

BINS = 15
"""Bins of probabilities, all of one width."""

Labelled = dict[str, Any]


class Accuracy(Mean):
    """The share of examples with the right label."""

    name: ClassVar[str] = "accuracy"

    def value(self, prediction: Labelled, reference: Labelled) -> float:
        """Return 1 for the right label, else 0."""
        return float(prediction["label"] == reference["label"])


class LabelPairs(Metric):
    """What one example adds: the numbers of its true label and of the predicted one."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def count(self, prediction: Labelled, reference: Labelled) -> tuple[float, ...]:
        """Return (true, predicted)."""
        return self._number(reference["label"]), self._number(prediction["label"])

    def _number(self, label: str) -> int:
        return self._numbers.setdefault(label, len(self._numbers))


class MacroF1(LabelPairs):
    """The mean over labels of the F1 of each; over those that occur among predictions or references."""

    name: ClassVar[str] = "macro_f1"

    def score(self, counts_EK: Counts) -> float:
        """Return the mean of 2 · right ÷ (predicted + true)."""
        right, predicted, true = totals_by_label(counts_EK)
        there = predicted + true > 0
        return float((2 * right[there] / (predicted + true)[there]).mean()) if there.any() else 0.0


class MatthewsCorrelation(LabelPairs):
    """Matthews' correlation coefficient for any number of labels: 1 is perfect, 0 no better than chance.

    Gorodkin (2004), "Comparing two K-category assignments by a K-category correlation coefficient".
    """

    name: ClassVar[str] = "mcc"

    def score(self, counts_EK: Counts) -> float:
        """Return the correlation; 0.0 where all predictions or all references are one label."""
        right, predicted, true = totals_by_label(counts_EK)
        examples = len(counts_EK)
        spread = (examples**2 - predicted @ predicted) * (examples**2 - true @ true)
        return float((right.sum() * examples - predicted @ true) / math.sqrt(spread)) if spread > 0 else 0.0


class CalibrationError(Metric):
    """The expected calibration error: how far the probabilities of predicted labels are from how often these are right.

    The mean over 15 bins of equal width, weighted by their examples, of |mean probability − share right| (Guo et al.,
    2017, "On calibration of modern neural networks").
    """

    name: ClassVar[str] = "calibration_error"
    higher_is_better: ClassVar[bool] = False

    def count(self, prediction: Labelled, reference: Labelled) -> tuple[float, ...]:
        """Return (bin, probability − 1 if right)."""
        probability = prediction["probability"]
        return bin_of(probability), probability - (prediction["label"] == reference["label"])

    def score(self, counts_EK: Counts) -> float:
        """Return the sum over bins of |sum of gaps|, by examples."""
        if not len(counts_EK):
            return 0.0
        gaps = np.bincount(counts_EK[:, 0].astype(np.int64), weights=counts_EK[:, 1], minlength=BINS)
        return float(np.abs(gaps).sum() / len(counts_EK))


def bin_of(probability: float) -> int:
    """Return the number of a probability's bin; each bin has its upper edge."""
    return min(max(math.ceil(probability * BINS) - 1, 0), BINS - 1)


def totals_by_label(counts_EK: Counts) -> tuple[Counts, Counts, Counts]:
    """Return for each label how often it was predicted rightly, predicted, and true."""
    true_E, predicted_E = counts_EK.astype(np.int64).T
    labels = int(counts_EK.max(initial=-1)) + 1
    right_L, predicted_L, true_L = (
        np.bincount(numbers, minlength=labels).astype(np.float64)
        for numbers in (true_E[true_E == predicted_E], predicted_E, true_E)
    )
    return right_L, predicted_L, true_L
