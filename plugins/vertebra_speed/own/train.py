"""Vertebra's trainer as a run uses it, over the same workload."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vertebra.config.schema import BackboneConfig, GPUConfig, TrainerConfig
from vertebra.engine.checkpoints import Checkpoints
from vertebra.engine.devices import set_up
from vertebra.engine.events import StepEnd
from vertebra.engine.loading import load_backbone
from vertebra.engine.members import Member
from vertebra.engine.model import TaskModel
from vertebra.engine.trainer import Trainer
from vertebra.host.hookspecs import hookimpl
from vertebra.host.manager import create_behaviour_manager, create_host
from vertebra.tasks.features import Features
from vertebra.tasks.task import Task
from vertebra_speed.clock import Clock, peak_memory
from vertebra_speed.workload import Workload, linear_of

LIKE_HF = TrainerConfig(learning_rate=5e-5, epochs=1e6, warmup=0.0, weight_decay=0.0, evaluate_every=10**9)
"""Trainer's own defaults, so that both sides do the same work."""


class VertebraTraining:
    """Our trainer over one workload."""

    def __init__(self, folder: str, precision: str, threads: int, device: str, batch_size: int) -> None:
        self.workload = Workload.read(folder)
        self.gpu = GPUConfig(device=device, precision=precision, threads=threads)  # type: ignore[arg-type]
        self.batch_size = batch_size
        self.model = load_model(self.workload).to(device)

    def train(self, steps: int, warmup: int, seed: int) -> dict[str, Any]:
        """Train `warmup` steps and then `steps` that count, from a new trainer and a new optimizer."""
        watch = Stopwatch(warmup, warmup + steps, Clock(self.gpu.device))
        config = replace(LIKE_HF, batch_size=self.batch_size, max_steps=warmup + steps)
        examples = [[one] for one in self.workload.features["train"]]
        fit(self.model, self.workload.task, examples, self.gpu, config, seed, watch)
        gc.collect()
        return watch.turn

    def memory(self) -> dict[str, Any]:
        """Return the most memory held so far."""
        return peak_memory(self.gpu.device)


def fit(
    model: TaskModel,
    task: Task,
    examples: Sequence[Sequence[Features]],
    gpu: GPUConfig,
    config: TrainerConfig,
    seed: int,
    watch: Stopwatch,
    behaviour: object | None = None,
) -> None:
    """Train on random batches of examples, each of them its sequences, watched."""
    host = create_host()
    host.manager.register(watch)
    behaviours = create_behaviour_manager(host, ())
    if behaviour is not None:
        behaviours.register(behaviour)
    Trainer(
        model,
        [Member(task, examples, [str(number) for number in range(len(examples))])],
        config,
        set_up(gpu),
        Unsaved(Path(), keep=1),
        host,
        behaviours,
        seed=seed,
    ).fit()


class Stopwatch:
    """Times the steps after the warm-up, up to the last; what ends a step is told late on a GPU, what starts it is not."""

    def __init__(self, warmup: int, last: int, clock: Clock) -> None:
        self.warmup, self.last, self.clock = warmup, last, clock
        self.tokens = 0
        self.loss = 0.0
        """Of the last step."""
        self.turn: dict[str, Any] = {}

    @hookimpl
    def step_started(self, step: int) -> None:
        """Start behind the warm-up."""
        if step == self.warmup:
            self.clock.restart()

    @hookimpl
    def step_ended(self, step: StepEnd) -> None:
        """Stop behind the last step."""
        if step.step > self.warmup:
            self.tokens += step.tokens
        if step.step == self.last:
            self.turn, self.loss = self.clock.turn(self.tokens, self.last - self.warmup), step.loss


class Unsaved(Checkpoints):
    """Writes nothing: Trainer, beside it, does not save either."""

    def save(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> Path:
        """Do nothing."""
        return Path()

    def forget(self, best_step: int) -> None:
        """Do nothing."""


def load_model(workload: Workload, changes: dict[str, Any] | None = None) -> TaskModel:
    """Load the workload's backbone, causal like the other side's, with its head; `changes` are of its configuration."""
    config = BackboneConfig("hf", path=str(workload.model), attention="causal", config=changes or {})
    backbone = load_backbone(config, create_host())
    head = workload.task.build_head(backbone.width)
    workload.give_head(linear_of(head))
    return TaskModel(backbone, {workload.task.name: head})
