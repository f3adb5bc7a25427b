"""Ranking measures of one query: which candidates are relevant, and the scores that they are ranked by, the highest first.

Candidates with equal scores have no order. Every measure here is the expected value over all orders of the tied
candidates, in closed form (McSherry and Najork, "Computing Information Retrieval Performance Measures Efficiently in the
Presence of Tied Scores", ECIR 2008), so that it never depends on the order of the input. A query without a relevant
candidate gets 0.0 by each; whether it counts in a mean is for the caller to say. Without ties the numbers are those of
trec_eval: `average_precision` is its `map`, `reciprocal_rank` its `recip_rank`, `precision_at` its `P_k`, `hit_rate_at` its
`success_k`, `ndcg_at` its `ndcg_cut_k`.

All raise `ValueError` for lists of unequal length, for a score that is not a number, and for k below 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Relevance = Sequence[bool] | NDArray[np.bool_]
Scores = Sequence[float] | NDArray[np.floating]


class Ties(NamedTuple):
    """The ranking as groups of candidates with equal scores, the best group first; G groups."""

    above_G: NDArray[np.int64]
    """Candidates ranked above each group."""
    size_G: NDArray[np.int64]
    relevant_above_G: NDArray[np.int64]
    relevant_G: NDArray[np.int64]


def average_precision(relevant: Relevance, scores: Scores) -> float:
    """Return the mean, over the relevant candidates, of the precision at the place of each."""
    ties = tie_groups(relevant, scores)
    total = 0.0
    for above, size, relevant_above, count in zip(*(column.tolist() for column in ties), strict=True):
        if not count:
            continue
        others = np.arange(size)  # tied candidates that stand before a relevant one
        expected = relevant_above + 1 + others * ((count - 1) / max(1, size - 1))
        total += count / size * float((expected / (above + 1 + others)).sum())
    return total / max(1, int(ties.relevant_G.sum()))


def reciprocal_rank(relevant: Relevance, scores: Scores) -> float:
    """Return one over the rank, counted from 1, of the first relevant candidate."""
    ties = tie_groups(relevant, scores)
    groups = np.flatnonzero(ties.relevant_G)
    if not len(groups):
        return 0.0
    above, size, _, count = (int(column[groups[0]]) for column in ties)
    expected, chance = 0.0, count / size  # the chance that the first relevant one stands at this place of its group
    for place in range(1, size - count + 2):
        expected += chance / (above + place)
        chance *= (size - place - count + 1) / max(1, size - place)
    return expected


def precision_at(k: int, relevant: Relevance, scores: Scores) -> float:
    """Return the share of relevant candidates among the first k places; a place without a candidate counts as wrong."""
    ties = tie_groups(relevant, scores)
    return float((_taken(k, ties) / ties.size_G * ties.relevant_G).sum()) / k


def hit_rate_at(k: int, relevant: Relevance, scores: Scores) -> float:
    """Return 1.0 where a relevant candidate is among the first k, else 0.0; with ties, the probability of that."""
    ties = tie_groups(relevant, scores)
    groups = np.flatnonzero(ties.relevant_G)
    if not len(groups):
        return 0.0
    taken, size, count = (int(column[groups[0]]) for column in (_taken(k, ties), ties.size_G, ties.relevant_G))
    return 1.0 - comb(size - count, taken) / comb(size, taken)


def ndcg_at(k: int, relevant: Relevance, scores: Scores) -> float:
    """Return the discounted cumulative gain of the first k places over that of the best order; a relevant one gains 1.

    The discount of place i is 1 / log2(i + 1) (Järvelin and Kekäläinen, "Cumulated Gain-Based Evaluation of IR
    Techniques", TOIS 2002).
    """
    ties = tie_groups(relevant, scores)
    total = int(ties.relevant_G.sum())
    if not total:
        return 0.0
    taken = _taken(k, ties)
    gained = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(int(taken.sum())) + 2))))  # by the first i places
    reached = np.minimum(ties.above_G, len(gained) - 1)
    each_G = (gained[reached + taken] - gained[reached]) / ties.size_G
    return float((each_G * ties.relevant_G).sum()) / float(gained[min(total, len(gained) - 1)])


def tie_groups(relevant: Relevance, scores: Scores) -> Ties:
    """Return the candidates in groups of equal scores."""
    relevant_C, scores_C = np.asarray(relevant, dtype=bool), np.asarray(scores, dtype=np.float64)
    if relevant_C.shape != scores_C.shape or relevant_C.ndim != 1:
        raise ValueError(f"each candidate needs one score: {relevant_C.shape} candidates have {scores_C.shape} scores")
    if np.isnan(scores_C).any():
        raise ValueError("a score is not a number (NaN): such candidates cannot be ranked")
    _, group_C, size_G = np.unique(-scores_C, return_inverse=True, return_counts=True)
    relevant_G = np.bincount(group_C[relevant_C], minlength=len(size_G)).astype(np.int64)
    return Ties(np.cumsum(size_G) - size_G, size_G, np.cumsum(relevant_G) - relevant_G, relevant_G)


def _taken(k: int, ties: Ties) -> NDArray[np.int64]:
    """Return how many of each group stand among the first k."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    taken_G: NDArray[np.int64] = np.clip(k - ties.above_G, 0, ties.size_G)
    return taken_G
