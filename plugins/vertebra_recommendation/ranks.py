"""Ranks of the right item in a full ranking, with ties, and the best items of it.

Items with equal scores have no order of their own. A rank is therefore two numbers: how many candidates score higher, and
how many others score the same; a score of the ranking is its expected value over all orders of the tied ones.

Letters: I items of the catalogue, numbered as there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertebra_recommendation.catalogue import Catalogue

TOP = 10
"""Items in a prediction."""
SAMPLED = 100
"""Items beside the right one in sampled scores."""

Scores = NDArray[np.float64]
Rank = Mapping[str, int]


def recommend(
    catalogue: Catalogue, scores_I: Scores, seen: Sequence[int], target: int | None, *, sampled: bool = False
) -> dict[str, Any]:
    """Return a prediction: the best items with their scores, and the rank of the right one where it is known.

    `seen` items are no candidates, unless one is the right one. With `sampled`, the rank among 100 random candidates is
    there, too; they are drawn by a seed that depends on history and target alone, the same for every system.
    """
    candidate_I = np.ones(len(catalogue), dtype=bool)
    candidate_I[list(seen)] = False
    if target is not None:
        candidate_I[target] = True
    prediction: dict[str, Any] = {
        "items": [
            {"item": catalogue.items[number], "title": catalogue.titles[number], "score": float(scores_I[number])}
            for number in best(scores_I, candidate_I)
        ],
        "rank": None if target is None else rank(scores_I, candidate_I, target),
    }
    if sampled:
        prediction["rank_sampled"] = (
            None if target is None else rank(scores_I, _sample(candidate_I, seen, target), target)
        )
    return prediction


def best(scores_I: Scores, candidate_I: NDArray[np.bool_], count: int = TOP) -> list[int]:
    """Return the candidates with the highest scores; of equal ones those that stand first in the catalogue."""
    numbers = np.flatnonzero(candidate_I)
    order = np.argsort(-scores_I[numbers], kind="stable")
    found: list[int] = numbers[order[:count]].tolist()
    return found


def rank(scores_I: Scores, candidate_I: NDArray[np.bool_], target: int) -> dict[str, int]:
    """Return how many candidates score higher than the target, how many others the same, and how many there are."""
    others = candidate_I.copy()
    others[target] = False
    above = int((scores_I[others] > scores_I[target]).sum())
    tied = int((scores_I[others] == scores_I[target]).sum())
    return {"above": above, "tied": tied, "of": int(others.sum()) + 1}


def hit_rate(one: Rank, k: int = TOP) -> float:
    """Return the probability that the right item is among the first k."""
    return min(max(k - one["above"], 0), one["tied"] + 1) / (one["tied"] + 1)


def ndcg(one: Rank, k: int = TOP) -> float:
    """Return the expected 1 / log2(1 + place) where the place is at most k, else 0: NDCG with one right item."""
    places = _places(one)
    return float((1 / np.log2(1 + places[places <= k])).sum() / len(places))


def reciprocal(one: Rank) -> float:
    """Return the expected 1 / place."""
    return float((1 / _places(one)).mean())


def _places(one: Rank) -> NDArray[np.int64]:
    """Return the places, from 1, that the right item can have."""
    return np.arange(one["above"] + 1, one["above"] + one["tied"] + 2)


def _sample(candidate_I: NDArray[np.bool_], seen: Sequence[int], target: int) -> NDArray[np.bool_]:
    """Return the target and 100 other candidates (all, where there are fewer) that are not in the history."""
    others = candidate_I.copy()
    others[[*seen, target]] = False
    digest = hashlib.blake2b(f"{list(seen)} {target}".encode(), digest_size=8).digest()
    random = np.random.default_rng(int.from_bytes(digest, "big"))
    numbers = np.flatnonzero(others)
    chosen = np.zeros_like(candidate_I)
    chosen[random.choice(numbers, size=min(SAMPLED, len(numbers)), replace=False)] = True
    chosen[target] = True
    return chosen
