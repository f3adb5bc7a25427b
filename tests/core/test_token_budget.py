"""Memory that runs out costs a line, not the run: less at once, and the same is learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as tiny
import torch
from test_trainer import SHORT, Accuracy, Parity, make_trainer, rows_of
from torch import Tensor, nn

from vertebra.engine.evaluate import predict_parts
from vertebra.engine.model import TaskModel
from vertebra.engine.packing import PackedBatch
from vertebra.engine.token_budget import TokenBudget, is_out_of_memory
from vertebra.engine.trainer import Trainer
from vertebra.errors import RunError
from vertebra.host.hookspecs import hookimpl
from vertebra.host.manager import create_host
from vertebra.tasks.features import Features

MEMORY = 40
"""Tokens that fit."""


class Notes:
    """Keeps the notes of a run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @hookimpl
    def note_added(self, note: str) -> None:
        self.lines.append(note)


def trainer_of(folder: Path, budget: int, *, notes: Notes | None = None, **settings: Any) -> Trainer:
    """A trainer of a model with dropout, whose masks are those of other pieces if the pieces are others."""
    host = create_host()
    if notes is not None:
        host.manager.register(notes)
    trainer = make_trainer(folder, replace(SHORT, evaluate_every=2, **settings), host=host, budget=budget)
    for module in trainer.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    return trainer


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def out_of_memory() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the forward pass of more than `MEMORY` tokens fail; the sizes of those that did."""
    inner, failed = TaskModel.forward, []

    def forward(self: TaskModel, batch: PackedBatch, task: str) -> Tensor:
        if batch.n_tokens > MEMORY:
            failed.append(batch.n_tokens)
            raise out_of_memory()
        return inner(self, batch, task)

    monkeypatch.setattr(TaskModel, "forward", forward)
    return failed


def test_a_run_out_of_memory_ends_as_one_with_less_at_once(tmp_path: Path, small_memory: list[int]) -> None:
    notes = Notes()
    trainer = trainer_of(tmp_path / "a", 4096, notes=notes)
    trainer.fit()
    assert small_memory
    [line] = notes.lines
    tokens = trainer.devices.budget.tokens
    assert tokens <= MEMORY and f"going on with {tokens} tokens a pass instead of 4096" in line and "\n" not in line

    small_memory.clear()
    other = trainer_of(tmp_path / "b", tokens)
    other.fit()
    assert not small_memory
    assert torch.equal(weights(trainer), weights(other))


def test_gradients_of_a_backward_pass_that_failed_do_not_count(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "a", 4096)
    backward, pieces = trainer.devices.accelerator.backward, []

    def failing(loss: Tensor) -> None:
        backward(loss)
        pieces.append(loss)
        if len(pieces) == 1:
            raise out_of_memory()

    trainer.devices.accelerator.backward = failing
    trainer.fit()
    trainer.devices.accelerator.backward = backward
    other = trainer_of(tmp_path / "b", trainer.devices.budget.tokens)
    other.fit()
    assert torch.equal(weights(trainer), weights(other))


@pytest.mark.parametrize("ends_after", [1, 3, 5])
def test_a_run_out_of_memory_is_resumed_with_the_same_bits(
    ends_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = TaskModel.forward

    def run(folder: Path, ends: int | None) -> Trainer:
        """Train with memory for everything in the first steps, and for `MEMORY` tokens from then on."""
        trainer = trainer_of(folder, 64, checkpoint_every=1)
        trainer.resume()

        def forward(self: TaskModel, batch: PackedBatch, task: str) -> Tensor:
            if ends is not None and trainer.progress.step == ends:
                raise KeyboardInterrupt
            if self.training and trainer.progress.step >= 2 and batch.n_tokens > MEMORY:
                raise out_of_memory()
            return inner(self, batch, task)

        monkeypatch.setattr(TaskModel, "forward", forward)
        try:
            trainer.fit()
        except KeyboardInterrupt:
            assert ends is not None
        return trainer

    whole = run(tmp_path / "whole", None)
    assert whole.devices.budget.tokens <= MEMORY
    broken = run(tmp_path / "broken", ends_after)
    resumed = run(tmp_path / "broken", None)
    assert broken.progress.step == ends_after and resumed.progress == whole.progress
    assert torch.equal(weights(resumed), weights(whole))


def test_a_sequence_that_does_not_fit_is_named(tmp_path: Path, small_memory: list[int]) -> None:
    rows = rows_of(8)
    rows[5] = {"id": "too-long", "ids": list(range(1, MEMORY + 1))}
    trainer = make_trainer(tmp_path, SHORT, rows=rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("test_token_budget.MEMORY", MEMORY - 1)
        with pytest.raises(RunError, match=r"40 tokens of too-long do not fit .*gradient_checkpointing=true") as caught:
            trainer.fit()
    assert "\n" not in str(caught.value)


def test_evaluation_goes_on_with_less_at_once(tmp_path: Path, small_memory: list[int]) -> None:
    notes, trainer = Notes(), trainer_of(tmp_path, 30)
    features = [one for example in trainer.examples for one in example]

    def predict(budget: int) -> dict[int, Any]:
        trainer.devices.budget.tokens = budget
        trainer.devices.budget.tell = notes.lines.append
        parts = predict_parts(trainer.model, trainer.members[0].task, features, trainer.devices)
        return {part.example: part.value for part in parts}

    expected = predict(30)
    assert not small_memory and not notes.lines
    assert predict(4096) == expected
    assert len(expected) == len(features) and small_memory
    assert f"going on with {trainer.devices.budget.tokens} tokens" in notes.lines[0]
    assert len(notes.lines) == 1


def test_without_a_run_the_line_goes_to_standard_error(
    tmp_path: Path, small_memory: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = trainer_of(tmp_path, 30)
    features = [one for example in trainer.examples for one in example]
    devices = trainer.devices.with_budget(4096)
    assert len(list(predict_parts(trainer.model, trainer.members[0].task, features, devices))) == len(features)
    assert capsys.readouterr().err.startswith("Memory ran out: going on with ")


@pytest.mark.parametrize(
    "allocate",
    [lambda: torch.empty(1 << 58, dtype=torch.uint8), lambda: np.empty(1 << 58, dtype=np.uint8)],
    ids=["torch", "numpy"],
)
def test_what_says_that_memory_ran_out_on_the_cpu(allocate: Callable[[], Any]) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(out_of_memory())
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))


def test_another_error_is_no_lack_of_memory() -> None:
    def compute(piece: Sequence[Features]) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    budget = TokenBudget(100)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        list(budget.in_pieces(tiny.sequences([5, 5]), compute, lambda _: "", padded=False))
    assert budget.tokens == 100


@pytest.mark.parametrize("padded", [False, True])
def test_every_sequence_is_computed_once_in_spite_of_failures(padded: bool) -> None:
    done: list[int] = []

    def compute(piece: Sequence[Features]) -> None:
        if sum(map(len, piece)) > MEMORY:
            raise MemoryError
        done.extend(one.example for one in piece)

    budget = TokenBudget(1000)
    budget.tell = lambda _: None
    list(budget.in_pieces(tiny.sequences([30, 1, 7, 25, 25, 3, 3, 40, 12]), compute, lambda _: "", padded=padded))
    assert sorted(done) == list(range(9))


def test_scores_do_not_change_with_the_budget(tmp_path: Path, small_memory: list[int]) -> None:
    trainer = make_trainer(tmp_path, SHORT)
    evaluate = trainer.members[0].evaluate
    assert evaluate is not None and Accuracy.name == Parity.metrics[0]
    lowered = evaluate()
    assert small_memory
    small_memory.clear()
    again = evaluate()
    assert not small_memory and again.scores == lowered.scores
    assert again.loss == pytest.approx(lowered.loss, rel=1e-6)
