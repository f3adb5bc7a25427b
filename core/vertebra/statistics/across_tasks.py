"""Systems over several tasks: ranks, a normalised average, and how far apart ranks must be.

N tasks, S systems. Demšar (2006), "Statistical comparisons of classifiers over multiple data sets", explains these tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def ranks(scores_NS: Floats, higher_is_better: Sequence[bool]) -> Floats:
    """Return each system's rank on each task, 1 for the best; systems with one score share the mean of their ranks."""
    from scipy.stats import rankdata

    signs_N = np.where(higher_is_better, -1.0, 1.0)
    rounded_NS = np.round(scores_NS, 12)  # means of equal scores may differ in their last bit
    return np.array([rankdata(sign * row) for sign, row in zip(signs_N, rounded_NS, strict=True)])


def normalised(scores: Sequence[float], *, higher_is_better: bool) -> list[float]:
    """Return the scores of one task between 0 for the worst and 1 for the best of them; all 1 where they are equal."""
    best, worst = max(scores), min(scores)
    if not higher_is_better:
        best, worst = worst, best
    return [(score - worst) / (best - worst) if best != worst else 1.0 for score in scores]


@dataclass(frozen=True)
class RankTest:
    """Whether systems rank alike over all tasks, and how far apart average ranks must be to differ."""

    average_ranks: tuple[float, ...]
    p_value: float
    """Friedman's test that all systems are alike."""
    critical_difference: float
    """Nemenyi's: average ranks at least this far apart differ at the level of the test."""

    @property
    def cliques(self) -> list[tuple[int, ...]]:
        """The largest groups of systems (numbers, best rank first) of which none differs from another."""
        order = sorted(range(len(self.average_ranks)), key=lambda number: self.average_ranks[number])
        found: list[tuple[int, ...]] = []
        for start, first in enumerate(order):
            reach = self.average_ranks[first] + self.critical_difference
            group = tuple(one for one in order[start:] if self.average_ranks[one] < reach)
            if len(group) > 1 and not any(set(group) <= set(other) for other in found):
                found.append(group)
        return found


def rank_test(ranks_NS: Floats, *, level: float = 0.05) -> RankTest | None:
    """Return the tests by Friedman and Nemenyi; None for fewer than three systems or two tasks, of which they say nothing."""
    from scipy.stats import friedmanchisquare

    tasks, systems = ranks_NS.shape
    if tasks < 2 or systems < 3:
        return None
    alike = bool((ranks_NS == ranks_NS[:, :1]).all())  # scipy would divide by zero
    p_value = 1.0 if alike else float(friedmanchisquare(*ranks_NS.T).pvalue)
    averages = tuple(float(rank) for rank in ranks_NS.mean(axis=0))
    return RankTest(averages, p_value, critical_difference(systems, tasks, level=level))


def critical_difference(systems: int, tasks: int, *, level: float = 0.05) -> float:
    """Return Nemenyi's critical difference of average ranks (Nemenyi, 1963)."""
    from scipy.stats import studentized_range

    quantile = studentized_range.ppf(1 - level, systems, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(systems * (systems + 1) / (6 * tasks)))
