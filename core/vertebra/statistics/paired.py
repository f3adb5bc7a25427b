"""Paired tests of two systems on the same examples; E examples, K numbers that an example counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vertebra.metrics.metric import Counts, Mean, Metric

PERMUTATIONS = 4999
RADEMACHER = 3.178
"""How much heavier than a normal tail that of a sum of numbers with random signs is at most (Bentkus and Dzindzalieva, 2015,
"A tight Gaussian bound for weighted sums of Rademacher random variables")."""


def permutation_test(
    metric: Metric, ours_EK: Counts, theirs_EK: Counts, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> float:
    """Return the two-sided p-value of approximate randomization: who gave which prediction is drawn anew for each example.

    It suits any metric, those of a corpus included, for a score is computed of each draw (Noreen, 1989, "Computer-intensive
    methods for testing hypotheses"; Yeh, 2000, "More accurate tests for the statistical significance of result
    differences"). Its null hypothesis is that the two sets of predictions are exchangeable; it says nothing of other seeds.
    Examples on which both count the same change no draw and are passed over quickly. Where no draw is as extreme as what was
    seen, the p-value is that of a normal tail, for else a correction for many pairs would leave none below any level; it is
    never below that of all draws there are. `ValueError` for unequal shapes.
    """
    from scipy.stats import norm

    if ours_EK.shape != theirs_EK.shape:
        raise ValueError(f"the same examples are needed: {ours_EK.shape} are not {theirs_EK.shape}")
    differ = np.flatnonzero((ours_EK != theirs_EK).any(axis=1))
    if not len(differ):
        return 1.0
    seen = abs(metric.score(ours_EK) - metric.score(theirs_EK))
    generator = np.random.default_rng(seed)
    one_EK, other_EK = ours_EK.copy(), theirs_EK.copy()
    drawn_B = np.empty(permutations)
    for number in range(permutations):
        swapped = generator.random(len(differ)) < 0.5
        one_EK[differ] = np.where(swapped[:, None], theirs_EK[differ], ours_EK[differ])
        other_EK[differ] = np.where(swapped[:, None], ours_EK[differ], theirs_EK[differ])
        drawn_B[number] = metric.score(one_EK) - metric.score(other_EK)
    extreme = int((np.abs(drawn_B) >= seen - 1e-12).sum())  # sums in another order may differ in the last bit
    if extreme:
        return (1 + extreme) / (1 + permutations)
    deviation = float(drawn_B.std())
    tail = 2 * RADEMACHER * float(norm.sf(seen / deviation)) if deviation else 1.0
    return max(min(tail, 1 / (1 + permutations)), 2.0 ** (1 - len(differ)))


def is_right_or_wrong(metric: Metric, *counts: Counts) -> bool:
    """Whether a metric is a share of examples that are right, so that McNemar's test applies."""
    return isinstance(metric, Mean) and all(
        counts_EK.shape[1] == 1 and np.isin(counts_EK, (0, 1)).all() for counts_EK in counts
    )


def mcnemar_test(ours_E1: Counts, theirs_E1: Counts) -> float:
    """Return the exact two-sided p-value of McNemar's test, of examples that are right (1) or wrong (0).

    Those that one system alone has right are, were both as good, coins (McNemar, 1947; the exact form is the binomial test).
    """
    from scipy.stats import binomtest

    ours, theirs = ours_E1[:, 0] > 0, theirs_E1[:, 0] > 0
    won, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number: the chance of one false finding among all stays below that of each alone.

    Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, number in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[number]))
        adjusted[number] = largest
    return adjusted
