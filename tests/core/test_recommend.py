"""What `auto` comes to, by weights and data."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vertebra.config.schema import TrainerConfig
from vertebra.engine.recommend import ENOUGH_STEPS, MOST_EPOCHS, settle
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


def test_nor_is_running_text() -> None:
    assert settle(TrainerConfig(), backbone(), None).epochs == 5.0


def test_replayed_rows_make_no_epoch_longer() -> None:
    def part(rows: int, share: float | None) -> Any:
        splits = SimpleNamespace(rows={"train": [{}] * rows})
        return SimpleNamespace(task=None, choice=SimpleNamespace(share=share), splits=splits)

    assert rows_of_epoch([part(30, None), part(1000, 0.1)]) == 30
    assert rows_of_epoch([part(30, None), part(1000, None)]) == 1030
