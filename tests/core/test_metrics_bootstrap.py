"""Bootstrap intervals: around the score, narrower with more examples, the same each time."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vertebra.metrics.bootstrap import interval
from vertebra.metrics.metric import Counts, Mean, Metric


class Accuracy(Mean):
    name = "accuracy"

    def value(self, prediction: Any, reference: Any) -> float:
        return float(prediction == reference)


class F1(Metric):
    """F1 of (right, predicted, true) counts."""

    name = "f1"

    def count(self, prediction: Any, reference: Any) -> tuple[float, ...]:
        return len(prediction & reference), len(prediction), len(reference)

    def score(self, counts_EK: Counts) -> float:
        right, predicted, true = counts_EK.sum(axis=0)
        return float(2 * right / (predicted + true)) if predicted + true else 0.0


def bernoulli(examples: int, probability: float = 0.7, seed: int = 0) -> Counts:
    return (np.random.default_rng(seed).random((examples, 1)) < probability).astype(np.float64)


@given(st.lists(st.booleans(), min_size=2, max_size=200))
@settings(deadline=None, max_examples=30)
def test_the_interval_holds_the_score_and_lies_in_the_range_of_the_values(values: list[bool]) -> None:
    counts = np.array(values, dtype=np.float64)[:, None]
    low, high = interval(Accuracy(), counts, resamples=200)
    assert 0 <= low <= Accuracy().score(counts) <= high <= 1


def test_it_agrees_with_the_normal_approximation_for_a_mean() -> None:
    counts = bernoulli(3500)
    mean = counts.mean()
    half = 1.96 * np.sqrt(mean * (1 - mean) / 3500)
    low, high = interval(Accuracy(), counts, resamples=2000)
    assert abs(low - (mean - half)) < 0.002
    assert abs(high - (mean + half)) < 0.002


def test_it_narrows_with_more_examples_and_widens_with_confidence() -> None:
    def width(examples: int, confidence: float) -> float:
        low, high = interval(Accuracy(), bernoulli(examples), confidence=confidence)
        return high - low

    assert width(100, 0.95) > 2 * width(2500, 0.95) > 0
    assert width(500, 0.99) > width(500, 0.95) > width(500, 0.5)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    counts = bernoulli(300)
    assert interval(Accuracy(), counts, seed=3) == interval(Accuracy(), counts, seed=3)
    assert interval(Accuracy(), counts, seed=3) != interval(Accuracy(), counts, seed=4)


def test_ratios_of_sums_are_resampled_whole() -> None:
    gold = [{"a", "b"}, {"c"}, set(), {"d"}] * 100
    predicted = [{"a"}, {"c", "x"}, set(), {"e"}] * 100
    counts = np.array([F1().count(one, other) for one, other in zip(predicted, gold, strict=True)], dtype=np.float64)
    low, high = interval(F1(), counts)
    assert low < F1().score(counts) < high
    assert high - low < 0.15


def test_no_example_and_one_example_give_the_score_twice() -> None:
    assert interval(Accuracy(), np.zeros((0, 1))) == (0.0, 0.0)
    assert interval(Accuracy(), np.ones((1, 1))) == (1.0, 1.0)
    assert interval(F1(), np.zeros((0, 3))) == (0.0, 0.0)


def test_examples_that_agree_leave_no_width() -> None:
    assert interval(Accuracy(), np.ones((50, 1))) == (1.0, 1.0)
