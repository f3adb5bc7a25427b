"""The plan of training is a pure function: whole epochs, every example once, shared evenly."""

from __future__ import annotations

import tiny_models as tiny
from hypothesis import given
from hypothesis import strategies as st

from vertebra.engine.plan import Plan, share

counts, sizes, seeds = st.integers(1, 200), st.integers(1, 50), st.integers(0, 2**32)


@given(counts, sizes, seeds, st.integers(0, 5))
def test_an_epoch_sees_every_example_once(n_examples: int, batch_size: int, seed: int, epoch: int) -> None:
    plan = Plan(n_examples, batch_size, seed)
    first = epoch * plan.steps_per_epoch
    seen = [int(one) for step in range(first, first + plan.steps_per_epoch) for one in plan.examples(step)]
    assert sorted(seen) == list(range(n_examples))


def test_a_step_depends_on_the_seed_and_the_step_alone() -> None:
    one, same, other = Plan(100, 8, seed=1), Plan(100, 8, seed=1), Plan(100, 8, seed=2)
    steps = [3, 40, 3, 12]
    assert [one.examples(step).tolist() for step in steps] == [same.examples(step).tolist() for step in steps]
    assert one.examples(3).tolist() != other.examples(3).tolist()
    assert one.examples(0).tolist() != one.examples(one.steps_per_epoch).tolist()


def test_total_steps() -> None:
    plan = Plan(100, 32, seed=0)
    assert plan.steps_per_epoch == 4
    assert plan.total_steps(2.5, None) == 10
    assert plan.total_steps(2.5, max_steps=3) == 3
    assert plan.total_steps(0.01, None) == 1


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(1, 6))
def test_shares_hold_every_feature_once_and_are_even(lengths: list[int], processes: int) -> None:
    features = tiny.sequences(lengths)
    shares = [share(features, processes, rank) for rank in range(processes)]
    assert sorted(one.example for part in shares for one in part) == list(range(len(lengths)))
    loads = [sum(map(len, part)) for part in shares]
    assert max(loads) - min(loads) <= max(lengths)
