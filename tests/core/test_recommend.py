"""What `auto` comes to, by weights and data."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vertebra.config.options import configure
from vertebra.config.schema import TrainerConfig
from vertebra.engine.recommend import (
    ENOUGH_STEPS,
    FOUND_WITH,
    MOST_EPOCHS,
    rate_factor,
    settle,
    settled_rates,
)
from vertebra.host.manager import create_host
from vertebra.runs.describe import rows_of_epoch


def backbone(init: str = "pretrained", parameters: float = 9e6) -> Any:
    return SimpleNamespace(init=init, parameters=parameters)


@given(st.integers(0, 100_000), st.integers(1, 256), st.sampled_from([9e6, 30e6, 124e6, 7e9]))
def test_few_rows_are_seen_more_often(examples: int, batch_size: int, parameters: float) -> None:
    config = TrainerConfig(batch_size=batch_size)
    epochs = settle(config, backbone(parameters=parameters), examples).epochs
    usual = settle(config, backbone(parameters=parameters), 10**9).epochs
    assert isinstance(epochs, float) and isinstance(usual, float)
    steps = epochs * examples / batch_size
    assert epochs == usual if usual * examples / batch_size >= ENOUGH_STEPS else usual <= epochs <= MOST_EPOCHS
    assert steps >= ENOUGH_STEPS or epochs == MOST_EPOCHS
    assert steps <= max(usual * examples, ENOUGH_STEPS * batch_size + examples) / batch_size


@pytest.mark.parametrize(("init", "frozen"), [("random", False), ("random", True), ("pretrained", True)])
def test_random_weights_and_heads_alone_are_not(init: str, frozen: bool) -> None:
    few, many = (settle(TrainerConfig(), backbone(init), examples, frozen=frozen) for examples in (10, 10**6))
    assert few == many


def test_what_is_said_stays() -> None:
    said = TrainerConfig(epochs=2.5, learning_rate=1e-3, warmup=0.2)
    assert settle(said, backbone(), 10, factor=10) == said


@pytest.mark.parametrize(
    ("adapter", "of_eight"), [("lora", 0.5), ("bottleneck", 0.5), ("top_layers", 1.0), ("frozen", 1.0), ("none", 1.0)]
)
def test_an_adapter_s_rate_goes_with_the_root_of_the_rows_below_those_it_was_found_with(
    adapter: str, of_eight: float
) -> None:
    host = create_host()
    config = configure(host, task="ner", adapter=adapter).adapter
    usual = rate_factor(config, host, FOUND_WITH)
    assert rate_factor(config, host, FOUND_WITH / 4) == pytest.approx(usual * of_eight)
    assert rate_factor(config, host, 4 * FOUND_WITH) == usual


@given(st.integers(1, 256), st.floats(0.01, 1.0))
def test_a_task_with_an_adapter_of_its_own_learns_as_fast_as_alone_with_its_rows(batch_size: int, share: float) -> None:
    host, rows = create_host(), batch_size * share
    each = {"adapters": "each", "batch_size": batch_size}
    config = configure(host, tasks=["ner", "sentiment"], adapter="lora", trainer=each)
    whole = rate_factor(config.adapter, host, batch_size)
    found = [one.rate for one in settled_rates(config, [rows, batch_size - rows], host)]
    alone = [rate_factor(config.adapter, host, own) for own in (rows, batch_size - rows)]
    assert [whole * rate for rate in found if isinstance(rate, float)] == pytest.approx(alone)


def test_a_rate_that_is_said_stays() -> None:
    host = create_host()
    tasks: dict[str, Any] = {"ner": {"rate": 0.3}, "sentiment": {}}
    each = {"adapters": "each"}
    config = configure(host, tasks=tasks, adapter="lora", trainer=each)
    first, second = settled_rates(config, [8.0, 24.0], host)
    assert first.rate == 0.3 and second.rate == pytest.approx(0.75**0.5)
    at_one_rate = replace(config, trainer=replace(config.trainer, learning_rate=1e-3))
    assert [one.rate for one in settled_rates(at_one_rate, [8.0, 24.0], host)] == [0.3, 1.0]


def test_nor_is_running_text() -> None:
    assert settle(TrainerConfig(), backbone(), None).epochs == 5.0


def test_replayed_rows_make_no_epoch_longer() -> None:
    def part(rows: int, share: float | None) -> Any:
        splits = SimpleNamespace(rows={"train": [{}] * rows})
        return SimpleNamespace(task=None, choice=SimpleNamespace(share=share), splits=splits)

    assert rows_of_epoch([part(30, None), part(1000, 0.1)]) == 30
    assert rows_of_epoch([part(30, None), part(1000, None)]) == 1030
