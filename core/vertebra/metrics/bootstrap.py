"""Confidence intervals of any metric, by resampling examples."""

from __future__ import annotations

import numpy as np

from vertebra.metrics.metric import Counts, Metric


def interval(
    metric: Metric, counts_EK: Counts, *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the (low, high) of the percentile bootstrap of `metric` over the E examples behind `counts_EK`.

    The same seed draws the same examples for every metric, so that intervals of one run belong together. With fewer
    than two examples there is nothing to resample and both ends are the score itself.
    """
    examples = len(counts_EK)
    if examples < 2:
        score = metric.score(counts_EK)
        return score, score
    generator = np.random.default_rng(seed)
    scores = [
        metric.score(counts_EK.take(generator.integers(examples, size=examples), axis=0)) for _ in range(resamples)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(scores, (tail, 1 - tail))
    return float(low), float(high)
