"""Simulations: how often intervals hold the true value, and how often tests find a difference where there is none.

Entities: each sentence has its own difficulty; the true F1 is that of 400,000 sentences. The bands are those that the
project promises: 93 to 97 % and at most 6 %, and what sampling error of the simulation itself allows.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest

from vertebra.metrics.bootstrap import Sampled, interval
from vertebra.metrics.metric import Counts, Mean, Metric
from vertebra.statistics.paired import mcnemar_test, permutation_test

SENTENCES = 200


class F1(Metric):
    name = "f1"

    def count(self, prediction: Any, reference: Any) -> tuple[float, ...]:
        raise AssertionError("counts are drawn")

    def score(self, counts_EK: Counts) -> float:
        right, predicted, true = counts_EK.sum(axis=0)
        return float(2 * right / (predicted + true)) if predicted + true else 0.0


class Value(Mean):
    name = "value"

    def value(self, prediction: Any, reference: Any) -> float:
        raise AssertionError("counts are drawn")


def sentences(generator: np.random.Generator, number: int, ability_E: Any) -> Counts:
    """Draw (right, predicted, true) of sentences with these chances that an entity is found."""
    true_E = generator.poisson(1.7, number)
    right_E = generator.binomial(true_E, ability_E)
    wrong_E = generator.poisson(0.6 * (true_E - right_E) + 0.1)
    return np.stack([right_E, right_E + wrong_E, true_E], axis=1).astype(float)


def difficulty(generator: np.random.Generator, number: int, quality: float) -> Any:
    return generator.beta(3 * quality, 3 * (1 - quality), number)


def within(hits: int, samples: int, low: float, high: float) -> None:
    """Require a share between these ends, as far as so many samples can tell (three standard errors)."""
    share = hits / samples
    slack = 3 * sqrt(0.05 * 0.95 / samples)
    assert low - slack <= share <= high + slack, f"{share:.4f} of {samples}"


def entity_f1_coverage(quality: float, samples: int) -> int:
    generator = np.random.default_rng(round(1000 * quality))
    many = sentences(generator, 400_000, difficulty(generator, 400_000, quality))
    truth = F1().score(many)
    hits = 0
    for _ in range(samples):
        counts = sentences(generator, SENTENCES, difficulty(generator, SENTENCES, quality))
        low, high = interval(F1(), counts, resamples=300)
        hits += low <= truth <= high
    return hits


@pytest.mark.parametrize("quality", [0.6, 0.95])
def test_intervals_of_entity_f1_over_200_sentences_hold_the_true_value(quality: float) -> None:
    within(entity_f1_coverage(quality, 150), 150, 0.93, 0.97)


@pytest.mark.slow
@pytest.mark.parametrize("quality", [0.3, 0.6, 0.8, 0.95])
def test_intervals_of_entity_f1_in_many_samples(quality: float) -> None:
    samples = 3000
    share = entity_f1_coverage(quality, samples) / samples
    assert 0.93 <= share <= 0.97, share


@pytest.mark.slow
@pytest.mark.parametrize("chance", [0.5, 0.8, 0.93])
def test_intervals_of_accuracy_in_many_samples(chance: float) -> None:
    generator = np.random.default_rng(5)
    draws = (generator.random((2000, 400, 1)) < chance).astype(float)
    intervals = [interval(Value(), counts, resamples=800) for counts in draws]
    share = sum(low <= chance <= high for low, high in intervals) / len(intervals)
    assert 0.93 <= share <= 0.97, share


# --- over seeds


def seeds_of_f1(generator: np.random.Generator, difficulty_E: Any, seeds: int, spread: float) -> list[Counts]:
    """Draw what models of several seeds count on the same sentences; `spread` is how much seeds differ in their odds."""
    odds_E = np.log(difficulty_E / (1 - difficulty_E))
    true_E = np.random.default_rng(0).poisson(1.7, len(difficulty_E))
    counted = []
    for shift in spread * generator.standard_normal(seeds):
        right_E = generator.binomial(true_E, 1 / (1 + np.exp(-odds_E - shift)))
        wrong_E = generator.poisson(0.6 * (true_E - right_E) + 0.1)
        counted.append(np.stack([right_E, right_E + wrong_E, true_E], axis=1).astype(float))
    return counted


def seeds_of_values(generator: np.random.Generator, example_E: Any, seeds: int, spread: float) -> list[Counts]:
    noise_SE = 0.3 * generator.standard_normal((seeds, len(example_E)))
    shift_S1 = spread * generator.standard_normal((seeds, 1))
    return list((example_E + shift_S1 + noise_SE)[..., None])


def seed_coverage(seeds: int, spread: float, samples: int) -> int:
    generator = np.random.default_rng(7)
    hits = 0
    for _ in range(samples):
        counts = seeds_of_values(generator, 0.3 * generator.standard_normal(SENTENCES), seeds, spread)
        low, high = Sampled.of(Value(), counts, resamples=300).mean().interval()
        hits += low <= 0 <= high
    return hits


def false_positives(seeds: int, spread: float, samples: int) -> int:
    generator = np.random.default_rng(8)
    found = 0
    for _ in range(samples):
        difficulty_E = np.clip(difficulty(generator, SENTENCES, 0.6), 1e-6, 1 - 1e-6)
        ours, theirs = (
            Sampled.of(F1(), seeds_of_f1(generator, difficulty_E, seeds, spread), resamples=300) for _ in range(2)
        )
        found += ours.minus(theirs).p_value() <= 0.05
    return found


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_intervals_over_three_seeds_hold_the_true_mean(spread: float) -> None:
    within(seed_coverage(3, spread, 150), 150, 0.93, 0.97)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.01, 0.03, 0.1])
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_over_seeds_in_many_samples(seeds: int, spread: float) -> None:
    share = seed_coverage(seeds, spread, 2000) / 2000
    assert 0.93 <= share <= 0.975, share  # where seeds are all alike, three of them cannot show it


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_equal_systems_of_three_seeds_seldom_differ(spread: float) -> None:
    within(false_positives(3, spread, 60), 60, 0.0, 0.06)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("seeds", [3, 5])
def test_equal_systems_of_several_seeds_in_many_samples(seeds: int, spread: float) -> None:
    assert false_positives(seeds, spread, 1500) / 1500 <= 0.06 + 3 * sqrt(0.06 * 0.94 / 1500)


def sampled_means(values_SE: Any, weights_BE: Any, *, fixed: bool = False) -> Sampled:
    """What `Sampled.of` makes of means, in a few products: thousands of samples in seconds."""
    examples = values_SE.shape[1]
    left_out_SE = (values_SE.sum(axis=1, keepdims=True) - values_SE) / (examples - 1)
    return Sampled(values_SE.mean(axis=1), values_SE @ weights_BE.T, left_out_SE, examples, fixed)


def test_the_quick_samples_are_the_real_ones() -> None:
    values_SE = np.random.default_rng(1).standard_normal((2, 30))
    generator = np.random.default_rng(0)  # as `Sampled.of` draws
    weights_BE = np.array([np.bincount(generator.integers(30, size=30), minlength=30) for _ in range(50)]) / 30
    quick, real = sampled_means(values_SE, weights_BE), Sampled.of(Value(), list(values_SE[..., None]), resamples=50)
    for one, other in zip(vars(quick).values(), vars(real).values(), strict=True):
        assert one == pytest.approx(other)


def test_intervals_over_seeds_that_differ_much_owe_nothing_to_a_few_draws() -> None:
    """Where seeds are nearly all there is, the quantiles of their few random draws had been the same in every interval."""
    generator = np.random.default_rng(7)
    weights_BE = generator.multinomial(SENTENCES, [1 / SENTENCES] * SENTENCES, 300) / SENTENCES
    hits = 0
    for _ in range(1500):
        counts = seeds_of_values(generator, 0.3 * generator.standard_normal(SENTENCES), 3, 0.1)
        low, high = sampled_means(np.stack(counts)[..., 0], weights_BE).mean().interval()
        hits += low <= 0 <= high
    assert 0.93 <= hits / 1500 <= 0.97


def false_positives_of_means(seeds: tuple[int, int], spread: float, apart: float, samples: int) -> int:
    """How often means of equal systems differ. By chance each seed has, on each example, a deviation of 1; `apart` is that of
    each system on each example, and `spread` what the mean score of a seed has beside that of its examples."""
    generator = np.random.default_rng(12)
    examples, found = 100, 0
    weights_BE = generator.multinomial(examples, [1 / examples] * examples, 200) / examples
    for _ in range(samples):
        ours, theirs = (
            sampled_means(
                generator.standard_normal((number, examples))
                + apart * generator.standard_normal(examples)
                + spread / sqrt(examples) * generator.standard_normal((number, 1)),
                weights_BE,
            )
            for number in seeds
        )
        found += ours.minus(theirs).p_value() <= 0.05
    return found


@pytest.mark.parametrize("seeds", [(2, 2), (3, 3), (5, 1)])
def test_equal_systems_seldom_differ_where_seeds_vary_as_much_as_examples_make_them(seeds: tuple[int, int]) -> None:
    """Where the variance of seeds is a few times the examples' part of it: it is then easily taken for less than it is."""
    within(false_positives_of_means(seeds, 1.6, 0.0, 1000), 1000, 0.0, 0.06)


@pytest.mark.slow
@pytest.mark.parametrize("apart", [0.0, 0.5])
@pytest.mark.parametrize("spread", [0.0, 1.6, 10.0])
@pytest.mark.parametrize("seeds", [(2, 2), (3, 3), (5, 5), (3, 1), (5, 1)])
def test_equal_systems_in_many_samples(seeds: tuple[int, int], spread: float, apart: float) -> None:
    assert false_positives_of_means(seeds, spread, apart, 4000) / 4000 <= 0.06


def test_a_model_that_is_fixed_is_taken_as_it_is() -> None:
    generator = np.random.default_rng(13)
    weights_BE = generator.multinomial(100, [0.01] * 100, 200) / 100
    ours = sampled_means(generator.standard_normal((3, 100)) + np.array([[0.5], [0.9], [1.3]]), weights_BE)
    values_SE = generator.standard_normal((1, 100))
    one_seed, fixed = (sampled_means(values_SE, weights_BE, fixed=fixed) for fixed in (False, True))
    assert ours.minus(fixed).p_value() < ours.minus(one_seed).p_value()
    assert ours.minus(fixed).seed_variance == pytest.approx(np.var(ours.scores_S, ddof=1) / 3)
    assert ours.minus(one_seed).seed_variance == pytest.approx(4 * ours.minus(fixed).seed_variance)


# --- tests of two sets of predictions


def permutation_false_positives(samples: int) -> int:
    generator = np.random.default_rng(9)
    found = 0
    for _ in range(samples):
        ability_E = difficulty(generator, SENTENCES, 0.6)
        true_E = generator.poisson(1.7, SENTENCES)
        both = []
        for _ in range(2):
            right_E = generator.binomial(true_E, ability_E)
            wrong_E = generator.poisson(0.6 * (true_E - right_E) + 0.1)
            both.append(np.stack([right_E, right_E + wrong_E, true_E], axis=1).astype(float))
        found += permutation_test(F1(), *both, permutations=199) <= 0.05
    return found


def test_the_permutation_test_seldom_finds_a_difference_where_there_is_none() -> None:
    within(permutation_false_positives(200), 200, 0.0, 0.06)


@pytest.mark.slow
def test_the_permutation_test_in_many_samples() -> None:
    assert permutation_false_positives(4000) / 4000 <= 0.06


def test_mcnemars_test_seldom_finds_a_difference_where_there_is_none() -> None:
    generator = np.random.default_rng(10)
    chance_ME = generator.beta(2, 1, (2000, 150, 1))
    draws = [(generator.random(chance_ME.shape) < chance_ME).astype(float) for _ in range(2)]
    found = sum(mcnemar_test(ours, theirs) <= 0.05 for ours, theirs in zip(*draws, strict=True))
    assert found / 2000 <= 0.06


def test_a_real_difference_is_found() -> None:
    generator = np.random.default_rng(11)
    ability_E = difficulty(generator, SENTENCES, 0.6)
    ours = [sentences(generator, SENTENCES, np.minimum(1.0, ability_E + 0.25)) for _ in range(3)]
    theirs = [sentences(generator, SENTENCES, ability_E) for _ in range(3)]
    estimate = Sampled.of(F1(), ours).minus(Sampled.of(F1(), theirs))
    assert estimate.p_value() < 0.01
    assert estimate.interval()[0] > 0
    assert permutation_test(F1(), ours[0], theirs[0], permutations=999) < 0.01
