"""Thresholds: from which probability on a label is predicted, chosen on validation rows.

Letters in names: C candidates, each the threshold that one more of the validation's probabilities reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

Score = Callable[[Numbers, Numbers, float, float], Numbers]
"""From the true and false positives of each candidate (C,), and how many are positive and negative in all, to scores."""


def best_threshold(probabilities: Sequence[float], positive: Sequence[bool], score: Score) -> float:
    """Return the threshold with the best score; of several the nearest to 0.5, and 0.5 where there is nothing to go by.

    A threshold lies half way between two neighbouring probabilities, so that neither is decided by its last digit.
    """
    values, places = np.unique(np.asarray(probabilities, dtype=np.float64), return_inverse=True)
    is_positive = np.asarray(positive, dtype=bool)
    if len(values) < 2:
        return 0.5
    positives_C, negatives_C = (
        np.bincount(places[some], minlength=len(values))[::-1].cumsum()[::-1][1:].astype(np.float64)
        for some in (is_positive, ~is_positive)
    )
    thresholds_C = (values[:-1] + values[1:]) / 2
    scores_C = score(positives_C, negatives_C, float(is_positive.sum()), float((~is_positive).sum()))
    best = np.flatnonzero(scores_C >= scores_C.max() - 1e-12)
    return float(thresholds_C[best[np.abs(thresholds_C[best] - 0.5).argmin()]])


def f1(right: Numbers, wrong: Numbers, positives: float, negatives: float) -> Numbers:
    """Return the F1 of the positive label."""
    return 2 * right / np.maximum(right + wrong + positives, 1)


def macro_f1(right: Numbers, wrong: Numbers, positives: float, negatives: float) -> Numbers:
    """Return the mean F1 of both labels."""
    others = f1(negatives - wrong, positives - right, negatives, positives)
    return (f1(right, wrong, positives, negatives) + others) / 2
