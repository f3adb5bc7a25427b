"""The budget that is measured on a GPU, with the GPU's counters played."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_trainer import SHORT, make_trainer

from vertebra.engine import budget_measurement
from vertebra.engine.budget_measurement import MOST, SHARE, measured_budget, peak_memory, tokens_within
from vertebra.engine.trainer import Trainer
from vertebra.tasks.features import Features

MIB = 1 << 20


@given(st.integers(0, 10_000 * MIB), st.integers(1, 4 * MIB), st.integers(1, 4096), st.floats(0, 1e12, allow_nan=False))
def test_the_budget_is_the_largest_power_of_two_that_fits(
    anyway: int, per_token: int, tokens: int, room: float
) -> None:
    small, large = anyway + per_token * tokens, anyway + per_token * 2 * tokens
    found = tokens_within(room, tokens, small, large)
    assert found & (found - 1) == 0 and 1 <= found <= MOST
    fits = anyway + per_token * found <= room * (1 + 1e-9) + 1
    assert fits or found == 1
    assert found == MOST or anyway + per_token * 2 * found > room * (1 - 1e-9) - 1


def test_a_model_that_takes_nothing_by_the_token_gets_the_most() -> None:
    assert tokens_within(0.0, 2048, 100, 100) == MOST


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """A trainer on a machine that says it has 4 GiB left for it."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (3072 * MIB, 8192 * MIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 1024 * MIB)
    return make_trainer(tmp_path, SHORT)


def features_of(trainer: Trainer) -> list[Features]:
    return [one for example in trainer.examples for one in example]


def test_the_rooms_share_is_filled(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []

    def peak(_model: object, _task: object, piece: Sequence[Features], _devices: object) -> int:
        passes.append(sum(map(len, piece)))
        return 512 * MIB + passes[-1] * 128 * 1024

    monkeypatch.setattr(budget_measurement, "peak_memory", peak)
    tokens = measured_budget(trainer.model, trainer.members[0].task, features_of(trainer), trainer.devices)
    fitting = (SHARE * 4096 * MIB - 512 * MIB) / (128 * 1024)
    assert 16384 < fitting < 2 * 16384
    assert tokens == 16384
    longest = max(map(len, features_of(trainer)))
    assert passes[0] == passes[1] and passes[2] == 2 * passes[1]
    assert 2048 - longest < passes[0] <= 2048 and passes[0] % longest == 0


def test_a_measurement_out_of_memory_leaves_it_to_training(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    def peak(*_: object) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(budget_measurement, "peak_memory", peak)
    tokens = measured_budget(trainer.model, trainer.members[0].task, features_of(trainer), trainer.devices)
    assert 2048 - max(map(len, features_of(trainer))) < tokens <= 2048


def test_measuring_leaves_the_model_as_it_was(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    counters = iter([900 * MIB, 1000 * MIB, 1200 * MIB])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: next(counters))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    measured_budget(trainer.model, trainer.members[0].task, features_of(trainer), trainer.devices)
    assert next(counters, None) is None
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    trainer.fit()


def test_a_pass_makes_gradients(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 7)
    assert peak_memory(trainer.model, trainer.members[0].task, features_of(trainer)[:3], trainer.devices) == 7
    assert any(parameter.grad is not None for parameter in trainer.model.parameters())
