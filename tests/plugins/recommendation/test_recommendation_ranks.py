"""Ranks are those of a full sort, ties count as the mean over all their orders, and windows hold each target once."""

from __future__ import annotations

from itertools import permutations
from math import log2
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vertebra.host.manager import create_host
from vertebra_recommendation.catalogue import Catalogue
from vertebra_recommendation.histories import windows
from vertebra_recommendation.metrics import (
    ColdHRAt10,
    ColdNDCGAt10,
    CoverageAt10,
    HRAt10,
    HRAt10Sampled100,
    MRRFull,
    NDCGAt10,
    NDCGAt10Sampled100,
    PopularityBias,
)
from vertebra_recommendation.ranks import hit_rate, ndcg, reciprocal, recommend
from vertebra_recommendation.task import Recommendation


def catalogue(count: int) -> Catalogue:
    names = [f"i{number}" for number in range(count)]
    return Catalogue(names, [name.upper() for name in names], names, list(range(count)))


SCORES = st.lists(st.sampled_from([0.0, 0.5, 0.5, 1.0, 2.0]), min_size=1, max_size=6)


@given(SCORES, st.data(), st.integers(1, 4))
def test_ties_count_as_the_mean_over_all_orders(scores: list[float], data: Any, k: int) -> None:
    target = data.draw(st.integers(0, len(scores) - 1))
    seen = data.draw(st.lists(st.integers(0, len(scores) - 1), max_size=3))
    candidates = [number for number in range(len(scores)) if number == target or number not in seen]
    places = []
    for order in permutations(candidates):
        best_first = sorted(order, key=lambda number: -scores[number])  # stable: the order decides among ties
        places.append(best_first.index(target) + 1)
    one = recommend(catalogue(len(scores)), np.asarray(scores), seen, target)["rank"]
    assert one["of"] == len(candidates)
    assert hit_rate(one, k) == pytest.approx(np.mean([place <= k for place in places]))
    assert ndcg(one, k) == pytest.approx(np.mean([1 / log2(1 + place) if place <= k else 0 for place in places]))
    assert reciprocal(one) == pytest.approx(np.mean([1 / place for place in places]))


def test_the_best_items_are_those_of_a_full_sort_without_what_was_seen() -> None:
    scores = np.random.default_rng(0).permutation(50).astype(float)
    prediction = recommend(catalogue(50), scores, [3, 4, 5], 7)
    wanted = [number for number in np.argsort(-scores) if number not in (3, 4, 5)]
    assert [one["item"] for one in prediction["items"]] == [f"i{number}" for number in wanted[:10]]
    assert prediction["items"][0] == {"item": f"i{wanted[0]}", "title": f"I{wanted[0]}", "score": scores[wanted[0]]}
    assert prediction["rank"] == {"above": wanted.index(7), "tied": 0, "of": 47}


def test_equal_scores_are_worth_what_chance_is_worth() -> None:
    prediction = recommend(catalogue(100), np.zeros(100), [], 50)
    assert hit_rate(prediction["rank"]) == pytest.approx(0.1)
    assert [one["item"] for one in prediction["items"]] == [f"i{number}" for number in range(10)]


def test_without_a_next_item_there_is_no_rank() -> None:
    prediction = recommend(catalogue(5), np.arange(5.0), [4], None, sampled=True)
    assert prediction["rank"] is None and prediction["rank_sampled"] is None
    assert [one["item"] for one in prediction["items"]] == ["i3", "i2", "i1", "i0"]


def test_sampled_ranks_are_among_a_hundred_unseen_items_the_same_for_all_systems() -> None:
    seen, scores = list(range(40)), np.random.default_rng(1).normal(size=500)
    one = recommend(catalogue(500), scores, seen, 123, sampled=True)["rank_sampled"]
    assert one["of"] == 101 and one == recommend(catalogue(500), scores, seen, 123, sampled=True)["rank_sampled"]
    reverse = recommend(catalogue(500), -scores, seen, 123, sampled=True)["rank_sampled"]
    assert one["above"] + reverse["above"] == 100
    assert recommend(catalogue(50), scores[:50], seen, 41, sampled=True)["rank_sampled"]["of"] == 10


# --- metrics


def reference(number: int, taken: int) -> dict[str, Any]:
    return {"item": f"i{number}", "title": "", "taken": taken, "cold": taken == 0}


def test_scores_of_rows() -> None:
    prediction = {"rank": {"above": 2, "tied": 0, "of": 50}, "rank_sampled": {"above": 0, "tied": 0, "of": 101}}
    row = reference(1, 1)
    assert NDCGAt10().count(prediction, row) == (0.5,)
    assert HRAt10().count(prediction, row) == (1.0,)
    assert MRRFull().count(prediction, row) == pytest.approx((1 / 3,))
    assert NDCGAt10Sampled100().count(prediction, row) == HRAt10Sampled100().count(prediction, row) == (1.0,)


def test_each_length_of_the_list_has_scores_of_its_own() -> None:
    host = create_host()
    seventh = {"rank": {"above": 6, "tied": 0, "of": 50}}
    found = {
        name: host.get("metric", name).load()().count(seventh, reference(1, 1))[0]
        for k in (5, 10, 20)
        for name in (f"hr_at_{k}", f"ndcg_at_{k}")
    }
    gain = pytest.approx(1 / log2(8))
    assert found == {
        "hr_at_5": 0,
        "ndcg_at_5": 0,
        "hr_at_10": 1,
        "ndcg_at_10": gain,
        "hr_at_20": 1,
        "ndcg_at_20": gain,
    }
    first_or_second = {"rank": {"above": 0, "tied": 1, "of": 50}}
    assert host.get("metric", "hr_at_1").load()().count(first_or_second, reference(1, 1)) == (0.5,)


def test_cold_scores_are_over_rows_of_cold_items_alone() -> None:
    ranks = [
        ({"rank": {"above": above, "tied": 0, "of": 50}}, reference(1, taken))
        for above, taken in [(0, 5), (2, 0), (30, 0)]
    ]
    assert ColdNDCGAt10().score(np.asarray([ColdNDCGAt10().count(*pair) for pair in ranks])) == 0.25
    assert ColdHRAt10().score(np.asarray([ColdHRAt10().count(*pair) for pair in ranks])) == 0.5
    assert ColdHRAt10().score(np.asarray([ColdHRAt10().count(*ranks[0])])) == 0.0


def test_coverage_and_popularity_bias_are_about_the_recommended_items() -> None:
    task = Recommendation()
    task.catalogue = catalogue(20)  # item n was taken n times
    first = {"items": [{"item": f"i{number}"} for number in range(10)]}
    second = {"items": [{"item": "i3"}, {"item": "i15"}]}
    coverage = CoverageAt10.for_task(task)
    counts = np.asarray([coverage.count(one, reference(1, 1)) for one in (first, second)], dtype=float)
    assert coverage.score(counts) == 11 / 20
    assert coverage.score(counts[1:]) == 2 / 20
    bias = PopularityBias.for_task(task)
    counts = np.asarray([bias.count(second, reference(1, 1))])
    assert bias.score(counts) == pytest.approx((np.log(4) + np.log(16)) / 2 - np.log(2))
    assert bias.score(np.zeros((0, 2))) == 0.0


# --- windows


@given(st.integers(0, 60), st.data(), st.integers(1, 20), st.booleans())
def test_each_target_stands_in_one_window_behind_the_items_before_it(n: int, data: Any, most: int, texts: bool) -> None:
    sequence = list(range(100, 100 + n))
    n_targets = data.draw(st.integers(0, n))
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=n, max_size=n)) if texts else None
    max_length = data.draw(st.integers(9, 80)) if texts else None
    made = list(windows(sequence, n_targets, most, lengths, max_length))
    assert [target for one in made for target in one.targets] == sequence[n - n_targets :]
    for one in made:
        assert one.items == sequence[one.first : one.first + len(one.items)]
        assert len(one.items) <= most
        if lengths is not None and max_length is not None and len(one.items) > 1:
            assert sum(lengths[one.first : one.first + len(one.items)]) <= max_length
        assert len(one.targets) <= len(one.items) + 1
        if n_targets:
            end = one.first + len(one.items)
            assert one.targets == sequence[end - len(one.targets) + 1 : end + 1]
            assert len(one.items) > 0 or one.targets[0] == sequence[0]
    if not n_targets:
        (last,) = made
        assert last.items[-1:] == sequence[-1:] and last.wanted == 1


def test_later_windows_read_half_a_window_before_their_first_target() -> None:
    made = list(windows(list(range(30)), 30, 8))
    assert made[0].items == list(range(8)) and made[0].targets == list(range(9))
    for one in made[1:]:
        assert len(one.items) == 8 and one.targets[0] - one.first >= 4


def test_a_history_is_read_from_its_end() -> None:
    (one,) = windows(list(range(30)), 0, 8)
    assert one.items == list(range(22, 30))
    (one,) = windows(list(range(30)), 1, 8)
    assert one.items == list(range(21, 29)) and one.targets == [29]
