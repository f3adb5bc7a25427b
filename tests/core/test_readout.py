"""Numbers that come late are the same numbers, and nothing is saved or evaluated before they are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_trainer import SHORT, Parity, make_trainer
from torch import Tensor

from vertebra.engine.events import EvaluationEnd, StepEnd
from vertebra.engine.readout import Readout, arriving
from vertebra.engine.trainer import Trainer
from vertebra.errors import RunError
from vertebra.host.hookspecs import hookimpl
from vertebra.host.manager import create_host


class Watcher:
    """Notes what is heard of a run."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.steps: list[StepEnd] = []

    @hookimpl
    def step_started(self, step: int) -> None:
        self.heard.append(f"start {step + 1}")

    @hookimpl
    def step_ended(self, step: StepEnd) -> None:
        self.heard.append(f"end {step.step}")
        self.steps.append(step)

    @hookimpl
    def evaluation_ended(self, evaluation: EvaluationEnd) -> None:
        self.heard.append(f"evaluation {evaluation.step}")

    @hookimpl
    def checkpoint_saved(self, step: int) -> None:
        self.heard.append(f"checkpoint {step}")


def watched(folder: Path, *, late: bool, task: Any = None) -> tuple[Trainer, Watcher]:
    host, watcher = create_host(), Watcher()
    host.manager.register(watcher)
    trainer = make_trainer(folder, SHORT, host=host, task=task)
    trainer.readout = Readout(late=late)
    return trainer, watcher


def test_late_numbers_are_those_that_come_at_once(tmp_path: Path) -> None:
    (at_once, one), (late, other) = watched(tmp_path / "a", late=False), watched(tmp_path / "b", late=True)
    at_once.fit()
    late.fit()
    for step, same in zip(one.steps, other.steps, strict=True):
        assert (step.step, step.epoch, step.loss, step.gradient_norm) == (
            same.step,
            same.epoch,
            same.loss,
            same.gradient_norm,
        )
        assert (step.learning_rate, step.tokens) == (same.learning_rate, same.tokens)
        assert step.seconds > 0 and same.seconds > 0
    assert other.heard[:10] == [
        "start 1",
        "start 2",
        "end 1",
        "start 3",
        "end 2",
        "end 3",
        "evaluation 3",
        "checkpoint 3",
        "start 4",
        "start 5",
    ]
    assert one.heard[:5] == ["start 1", "end 1", "start 2", "end 2", "start 3"]


class Breaks(Parity):
    """Its loss is not finite from the n-th batch on."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def loss(self, outputs_P2: Tensor, targets_P: Tensor) -> Tensor:
        self.batches -= 1
        return super().loss(outputs_P2, targets_P) * (torch.nan if self.batches < 0 else 1.0)


@pytest.mark.parametrize(("batches", "step", "queued"), [(0, 1, 2), (1, 2, 3), (2, 3, 3)])
def test_a_late_loss_that_is_not_finite_still_names_its_step(
    batches: int, step: int, queued: int, tmp_path: Path
) -> None:
    trainer, watcher = watched(tmp_path, late=True, task=Breaks(batches))
    with pytest.raises(RunError, match=rf"loss of step {step} is not finite; examples r\d+") as caught:
        trainer.fit()
    assert trainer.progress.step == queued
    assert not list(tmp_path.iterdir())  # though step 3 is the last of an epoch
    assert f"end {step}" not in watcher.heard and "evaluation 3" not in watcher.heard
    assert "\n" not in str(caught.value)


def test_a_step_that_is_stopped_after_is_known_before_it_is_saved(tmp_path: Path) -> None:
    trainer, _ = watched(tmp_path, late=True, task=Breaks(0))
    trainer.stop = lambda: True
    with pytest.raises(RunError, match="loss of step 1 is not finite"):
        trainer.fit()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("late", [False, True])
def test_results_arrive_in_order(late: bool) -> None:
    made = []

    def results() -> Any:
        for number in range(4):
            made.append(number)
            yield number, torch.full((2,), number), torch.tensor(-number)

    seen = []
    for number, outputs, loss in arriving(results(), late=late):
        assert outputs.tolist() == [number, number] and int(loss) == -number
        seen.append(number)
        assert len(made) == min(4, len(seen) + late)
    assert seen == [0, 1, 2, 3]
