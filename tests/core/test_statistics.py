"""Paired tests, corrections and ranks: against scipy and against published tables and cases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vertebra.metrics.bootstrap import Sampled, interval
from vertebra.metrics.metric import Counts, Mean, Metric
from vertebra.statistics.across_tasks import critical_difference, normalised, rank_test, ranks
from vertebra.statistics.paired import holm, is_right_or_wrong, mcnemar_test, permutation_test


class Value(Mean):
    name = "value"

    def value(self, prediction: Any, reference: Any) -> float:
        return float(prediction)


class F1(Metric):
    name = "f1"

    def count(self, prediction: Any, reference: Any) -> tuple[float, ...]:
        return prediction

    def score(self, counts_EK: Counts) -> float:
        right, predicted, true = counts_EK.sum(axis=0)
        return float(2 * right / (predicted + true)) if predicted + true else 0.0


def column(values: Any) -> Counts:
    return np.asarray(values, dtype=np.float64)[:, None]


# --- one system


def test_the_interval_of_a_mean_agrees_with_scipys_bca() -> None:
    values = np.random.default_rng(1).exponential(size=400)
    low, high = interval(Value(), column(values), resamples=8000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=8000, rng=np.random.default_rng(2), method="BCa")
    assert low == pytest.approx(theirs.confidence_interval.low, abs=0.01)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=0.01)


def test_what_a_bias_does_not_reach_is_in_the_interval_all_the_same() -> None:
    class Spread(Metric):
        """The number of different values: resampling can only lose some."""

        name = "spread"

        def count(self, prediction: Any, reference: Any) -> tuple[float, ...]:
            return (prediction,)

        def score(self, counts_EK: Counts) -> float:
            return float(len(np.unique(counts_EK)))

    low, high = interval(Spread(), column(range(50)))
    assert low <= 50 <= high
    assert math.isfinite(low)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8))
def test_the_interval_of_few_values_is_finite_and_holds_their_mean(values: list[float]) -> None:
    low, high = interval(Value(), column(values), resamples=50)
    assert low <= np.mean(values) + 1e-9
    assert np.mean(values) - 1e-9 <= high
    assert min(values) - 1e-9 <= low
    assert high <= max(values) + 1e-9


# --- several seeds


def test_seeds_that_agree_leave_the_interval_of_examples() -> None:
    counts = column(np.random.default_rng(1).random(300))
    assert Sampled.of(Value(), [counts] * 3).mean().interval() == interval(Value(), counts)


def test_the_variance_of_seeds_is_that_of_their_scores_less_what_examples_explain() -> None:
    """The variance component of a two-way layout without replicates."""
    generator = np.random.default_rng(2)
    noise_SE = generator.standard_normal((4, 500))
    scores = 0.5 * generator.standard_normal((4, 1)) + generator.standard_normal((1, 500)) + noise_SE
    sampled = Sampled.of(Value(), [column(row) for row in scores], resamples=2000)
    residual = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    expected = scores.mean(1).var(ddof=1) - (residual**2).sum() / (3 * 499) / 500
    assert sampled.seed_variance == pytest.approx(expected, rel=0.02)


def test_an_interval_over_seeds_that_differ_is_that_of_students_t() -> None:
    """Where examples all agree, seeds are all there is: the textbook's interval of a mean."""
    scores = np.array([0.70, 0.74, 0.71])
    sampled = Sampled.of(Value(), [column(np.full(100, score)) for score in scores], resamples=20_000)
    low, high = sampled.mean().interval()
    expected = stats.t.interval(0.95, 2, scores.mean(), stats.sem(scores))
    assert low == pytest.approx(expected[0], abs=0.006)
    assert high == pytest.approx(expected[1], abs=0.006)


def test_a_difference_over_seeds_is_students_t_test_where_examples_agree() -> None:
    ours, theirs = np.array([0.70, 0.74, 0.71]), np.array([0.66, 0.69, 0.70])
    one, other = (
        Sampled.of(Value(), [column(np.full(60, score)) for score in scores], resamples=20_000)
        for scores in (ours, theirs)
    )
    assert one.minus(other).p_value() == pytest.approx(stats.ttest_ind(ours, theirs).pvalue, abs=0.01)


def test_seeds_that_score_alike_by_chance_are_no_certainty() -> None:
    """Two seeds of each system are right on as many of 60 rows, but on other rows."""
    rights = [[50, 0], [50, 5], [48, 2], [48, 8]]
    one, other, *_ = (
        Sampled.of(Value(), [column(np.roll([1] * right + [0] * (60 - right), shift)) for right, shift in pair])
        for pair in (rights[:2], rights[2:])
    )
    assert one.score_variance == other.score_variance == 0
    assert 0.05 < one.minus(other).p_value() < 1
    assert one.minus(one).p_value() == 1.0


def test_few_examples_are_never_certain() -> None:
    always, never = (Sampled.of(Value(), [column([right] * 5)] * 3) for right in (1.0, 0.0))
    assert always.minus(never).p_value() == 2 / 2**5


def test_a_single_example_and_unequal_systems() -> None:
    single = Sampled.of(Value(), [column([0.3]), column([0.5])])
    assert single.mean().interval() == (0.4, 0.4)
    assert single.mean().p_value() == 1.0
    with pytest.raises(ValueError, match="same examples"):
        single.minus(Sampled.of(Value(), [column([0.3, 0.4])]))


# --- paired tests


def test_permutations_agree_with_scipys() -> None:
    generator = np.random.default_rng(3)
    ours = generator.standard_normal(40)
    theirs = ours + 0.3 * generator.standard_normal(40) + 0.08
    expected = stats.permutation_test(
        (ours, theirs),
        lambda one, other, axis: np.mean(one, axis=axis) - np.mean(other, axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(4),
    )
    assert permutation_test(Value(), column(ours), column(theirs), permutations=20_000) == pytest.approx(
        expected.pvalue, abs=0.01
    )


def test_permutations_of_few_examples_reach_the_exact_value() -> None:
    ours, theirs = column([1, 1, 1, 1, 1]), column([0, 0, 0, 0, 0])
    assert permutation_test(Value(), ours, theirs) == pytest.approx(2 / 2**5, abs=0.01)
    assert permutation_test(Value(), ours, ours) == 1.0
    with pytest.raises(ValueError, match="same examples"):
        permutation_test(Value(), ours, theirs[1:])


def test_a_score_of_the_corpus_is_permuted_whole() -> None:
    generator = np.random.default_rng(5)
    true = generator.poisson(2, 300)
    counts = [np.stack([generator.binomial(true, chance), true, true], axis=1).astype(float) for chance in (0.8, 0.6)]
    assert permutation_test(F1(), *counts, permutations=999) < 0.001


@pytest.mark.parametrize(("won", "lost"), [(30, 0), (55, 5), (400, 200)])
def test_a_p_value_beyond_the_permutations_is_near_the_exact_one(won: int, lost: int) -> None:
    """Of examples that are won or lost by one the exact test is the binomial one."""
    ours, theirs = column([1] * won + [0] * lost), column([0] * won + [1] * lost)
    exact = stats.binomtest(won, won + lost).pvalue
    assert exact < 1e-6
    assert exact <= permutation_test(Value(), ours, theirs, permutations=999) < exact**0.7


def test_many_pairs_leave_differences_to_be_found() -> None:
    """As of the 24 systems of a sweep: a p-value that cannot be small is none below any level when it is multiplied by 276."""
    generator = np.random.default_rng(14)
    pairs = 24 * 23 // 2
    ours, theirs = (generator.normal(mean, 1, (3, 300, 1)) for mean in (0.0, 1.0))
    by_seeds = Sampled.of(Value(), list(theirs)).minus(Sampled.of(Value(), list(ours)))
    found = (by_seeds.p_value(), permutation_test(Value(), ours[0], theirs[0]))
    assert max(holm([*found, *[1.0] * (pairs - 2)])[:2]) < 0.05


def test_mcnemars_exact_test() -> None:
    """The published case of statsmodels' documentation: 121 and 59 discordant pairs; and small ones by hand."""
    ours = column([1] * 121 + [0] * 59 + [1] * 10)
    theirs = column([0] * 121 + [1] * 59 + [1] * 10)
    assert mcnemar_test(ours, theirs) == pytest.approx(4.434e-06, rel=1e-3)
    assert mcnemar_test(column([1, 1, 1, 1, 1, 1]), column([0, 0, 0, 0, 0, 0])) == pytest.approx(2 / 64)
    assert mcnemar_test(ours, ours) == 1.0


def test_what_is_right_or_wrong() -> None:
    assert is_right_or_wrong(Value(), column([0, 1, 1]))
    assert not is_right_or_wrong(Value(), column([0, 1]), column([0.5, 1]))
    assert not is_right_or_wrong(F1(), np.ones((4, 3)))


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holms_correction(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert list(np.asarray(adjusted)[order]) == sorted(adjusted)
    assert not p_values or adjusted[order[0]] == min(1.0, len(p_values) * min(p_values))


def test_holms_correction_of_a_textbook_case() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


# --- ranks across tasks


def test_friedmans_test_is_scipys() -> None:
    scores = np.round(np.random.default_rng(6).random((14, 4)) + np.arange(4) / 10, 1)  # with ties
    found = rank_test(ranks(scores, [True] * 14))
    assert found is not None
    assert found.p_value == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)
    assert found.average_ranks == pytest.approx([stats.rankdata(-scores, axis=1)[:, one].mean() for one in range(4)])
    assert found.critical_difference == pytest.approx(
        1.25, abs=0.005
    )  # Demšar (2006), four classifiers on 14 data sets


@pytest.mark.parametrize(
    ("systems", "quantile"),
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)],
)
def test_the_critical_values_of_nemenyis_test_are_the_published_ones(systems: int, quantile: float) -> None:
    expected = quantile * math.sqrt(systems * (systems + 1) / (6 * 10))
    assert critical_difference(systems, 10) == pytest.approx(expected, rel=5e-4)


def test_scores_that_differ_in_their_last_bit_are_equal() -> None:
    assert 0.1 + 0.2 != 0.3
    assert ranks(np.array([[0.1 + 0.2, 0.3, 0.2]]), [True]).tolist() == [[1.5, 1.5, 3.0]]


def test_ranks_mind_direction_and_ties() -> None:
    found = ranks(np.array([[0.9, 0.8, 0.9], [1.0, 3.0, 2.0]]), [True, False])
    assert found.tolist() == [[1.5, 3.0, 1.5], [1.0, 3.0, 2.0]]


def test_cliques_are_what_the_bars_of_the_diagram_join() -> None:
    found = rank_test(np.array([[1, 2, 3, 4]] * 12, dtype=float))
    assert found is not None
    assert found.critical_difference == pytest.approx(1.354, abs=0.001)
    assert found.cliques == [(0, 1), (1, 2), (2, 3)]
    assert found.p_value < 1e-6
    alike = rank_test(np.full((5, 3), 2.0))
    assert alike is not None and alike.p_value == 1.0 and alike.cliques == [(0, 1, 2)]


def test_too_few_tasks_or_systems_say_nothing() -> None:
    assert rank_test(np.ones((1, 4))) is None
    assert rank_test(np.ones((4, 2))) is None


def test_the_normalised_average_goes_from_the_worst_to_the_best() -> None:
    assert normalised([0.2, 0.6, 0.4], higher_is_better=True) == pytest.approx([0, 1, 0.5])
    assert normalised([3.0, 1.0], higher_is_better=False) == [0, 1]
    assert normalised([0.5, 0.5], higher_is_better=True) == [1.0, 1.0]
