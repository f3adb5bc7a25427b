"""Ranking measures: those of trec_eval and scikit-learn, and the expected value over the orders of tied candidates."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vertebra.metrics.ranking import average_precision, hit_rate_at, ndcg_at, precision_at, reciprocal_rank

Measure = Callable[[Any, Any], float]

MEASURES: dict[str, Measure] = {
    "map": average_precision,
    "recip_rank": reciprocal_rank,
    "P_5": lambda relevant, scores: precision_at(5, relevant, scores),
    "success_5": lambda relevant, scores: hit_rate_at(5, relevant, scores),
    "ndcg_cut_5": lambda relevant, scores: ndcg_at(5, relevant, scores),
}
QUERIES = st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=6)


def random_query(seed: int, ties: bool) -> tuple[list[bool], list[float]]:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 30))
    scores = rng.integers(0, 4, size) if ties else rng.permutation(size)
    relevant = rng.random(size) < 0.3
    relevant[0] = True
    return relevant.tolist(), scores.astype(float).tolist()


@pytest.mark.parametrize("name", MEASURES)
def test_without_ties_the_numbers_are_those_of_trec_eval(name: str) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec-eval-terrier is in the dev extra")
    queries = {str(seed): random_query(seed, ties=False) for seed in range(100)}
    relevance = {
        query: {str(document): int(value) for document, value in enumerate(relevant)}
        for query, (relevant, _) in queries.items()
    }
    run = {
        query: {str(document): value for document, value in enumerate(scores)} for query, (_, scores) in queries.items()
    }
    theirs = pytrec_eval.RelevanceEvaluator(relevance, {"map", "recip_rank", "P.5", "success.5", "ndcg_cut.5"})
    found = theirs.evaluate(run)
    for query, (relevant, scores) in queries.items():
        assert MEASURES[name](relevant, scores) == pytest.approx(found[query][name], abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_average_precision_without_ties_is_that_of_scikit_learn(seed: int) -> None:
    from sklearn.metrics import average_precision_score

    relevant, scores = random_query(seed, ties=False)
    assert average_precision(relevant, scores) == pytest.approx(average_precision_score(relevant, scores))


@pytest.mark.parametrize("seed", range(20))
def test_ndcg_with_ties_is_that_of_scikit_learn(seed: int) -> None:
    from sklearn.metrics import ndcg_score

    relevant, scores = random_query(seed, ties=True)
    if len(scores) > 1:  # scikit-learn refuses a single document
        assert ndcg_at(5, relevant, scores) == pytest.approx(ndcg_score([relevant], [scores], k=5))


@pytest.mark.parametrize("name", MEASURES)
@settings(max_examples=60, deadline=None)
@given(query=QUERIES)
def test_a_tie_is_worth_the_mean_over_its_orders(name: str, query: list[tuple[bool, int]]) -> None:
    relevant, scores = zip(*query, strict=True)
    shuffled = []
    for order in permutations(range(len(query))):  # equal scores made different, in every order
        if all(scores[a] >= scores[b] for a, b in pairwise(order)):
            places = [0.0] * len(order)
            for place, candidate in enumerate(order):
                places[candidate] = -float(place)
            shuffled.append(MEASURES[name](relevant, places))
    assert MEASURES[name](relevant, scores) == pytest.approx(np.mean(shuffled))


@pytest.mark.parametrize("name", MEASURES)
@settings(max_examples=60, deadline=None)
@given(query=QUERIES, data=st.data())
def test_the_order_of_the_input_does_not_matter(name: str, query: list[tuple[bool, int]], data: st.DataObject) -> None:
    other = data.draw(st.permutations(query))
    (relevant, scores), (relevant2, scores2) = zip(*query, strict=True), zip(*other, strict=True)
    assert MEASURES[name](relevant, scores) == pytest.approx(MEASURES[name](relevant2, scores2))


@pytest.mark.parametrize("name", MEASURES)
def test_a_perfect_ranking_and_one_without_anything_relevant(name: str) -> None:
    assert MEASURES[name]([True] * 5 + [False] * 3, [8, 7, 6, 5, 4, 3, 2, 1]) == pytest.approx(1.0)
    assert MEASURES[name]([False, False], [1.0, 2.0]) == 0.0
    assert MEASURES[name]([], []) == 0.0


def test_all_tied_by_hand() -> None:
    relevant, scores = [True, False, False, False], [0.5] * 4
    assert reciprocal_rank(relevant, scores) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert average_precision(relevant, scores) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert precision_at(1, relevant, scores) == hit_rate_at(1, relevant, scores) == pytest.approx(0.25)
    assert hit_rate_at(2, relevant, scores) == pytest.approx(0.5)
    assert precision_at(10, relevant, scores) == pytest.approx(0.1)


def test_a_large_catalogue_with_one_score_for_all() -> None:
    relevant = np.arange(20_000) < 50
    assert hit_rate_at(10, relevant, np.zeros(20_000)) == pytest.approx(1 - (1 - 50 / 20_000) ** 10, rel=1e-2)
    assert precision_at(10, relevant, np.zeros(20_000)) == pytest.approx(50 / 20_000)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(
    ("relevant", "scores", "message"),
    [([True], [1.0, 2.0], "one score"), ([True, False], [1.0, float("nan")], "not a number")],
)
def test_what_cannot_be_ranked_is_refused(name: str, relevant: list[bool], scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MEASURES[name](relevant, scores)


@pytest.mark.parametrize("measure", [precision_at, hit_rate_at, ndcg_at])
def test_k_must_be_positive(measure: Callable[..., float]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        measure(0, [True], [1.0])
