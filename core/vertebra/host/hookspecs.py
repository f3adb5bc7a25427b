"""The hooks: what a plugin can give (`register_*`), watch (`RunHooks`) and, where named in the run, change (`BehaviourHooks`).

Three classes, never mixed. A plugin module implements `register_*` and, if it likes, hooks of `RunHooks`; what changes a
training step is a behaviour, a class of its own that a run selects by name, so that installing a plugin changes no run.
An implementation takes only the arguments it wants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

from vertebra.host.refs import (
    AdapterRef,
    BackboneRef,
    BehaviourRef,
    CommandRef,
    MetricRef,
    OptimizerRef,
    ReaderRef,
    ReportSectionRef,
    SchedulerRef,
    TaskRef,
)

if TYPE_CHECKING:
    import torch

    from vertebra.config.schema import RunConfig
    from vertebra.engine.events import EvaluationEnd, RunEnd, RunStart, StepEnd
    from vertebra.engine.packing import PackedBatch

PROJECT = "vertebra"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""The mark of a function that implements a hook; it takes those of the hook's arguments that it wants."""


class RegisterHooks:
    """What a plugin brings. Each fires once, before any configuration is read; None means that it brings none."""

    @hookspec
    def register_tasks(self) -> list[TaskRef] | None:
        """Bring tasks, selected by `task=NAME`."""

    @hookspec
    def register_metrics(self) -> list[MetricRef] | None:
        """Bring metrics, which tasks name in `Task.metrics` and runs in `trainer.more_metrics`."""

    @hookspec
    def register_backbones(self) -> list[BackboneRef] | None:
        """Bring backbones, selected by `backbone.name`; the option file `conf/backbone/NAME.yaml` sets that name."""

    @hookspec
    def register_adapters(self) -> list[AdapterRef] | None:
        """Bring adapters, selected by `adapter=NAME`."""

    @hookspec
    def register_optimizers(self) -> list[OptimizerRef] | None:
        """Bring optimizers, selected by `trainer.optimizer`."""

    @hookspec
    def register_schedulers(self) -> list[SchedulerRef] | None:
        """Bring learning-rate schedules, selected by `trainer.schedule`."""

    @hookspec
    def register_readers(self) -> list[ReaderRef] | None:
        """Bring data formats, selected by `data.format`."""

    @hookspec
    def register_commands(self) -> list[CommandRef] | None:
        """Bring commands, run as `vertebra NAME`."""

    @hookspec
    def register_report_sections(self) -> list[ReportSectionRef] | None:
        """Bring sections of the HTML report; each is called once per report, in the order of their names."""

    @hookspec
    def register_behaviours(self) -> list[BehaviourRef] | None:
        """Bring behaviours, which change a training step when they are named in `trainer.behaviours`."""

    @hookspec
    def register_config_packages(self) -> list[str] | None:
        """Bring packages of Hydra options, as `"my_plugin.conf"`: each an importable package whose folders are groups."""


class RunHooks:
    """What happens in a run, for those who watch. Fired on the main process; a return value is not read."""

    @hookspec
    def run_started(self, config: RunConfig, run: RunStart) -> None:
        """Fire once, when data and backbone are loaded and before the first step."""

    @hookspec
    def epoch_started(self, epoch: int) -> None:
        """Fire before the first step of each epoch (counted from 0)."""

    @hookspec
    def step_started(self, step: int) -> None:
        """Fire before a training step (counted from 0)."""

    @hookspec
    def step_ended(self, step: StepEnd) -> None:
        """Fire after the optimizer's update, with the loss, the learning rate and the speed of that step.

        On a GPU this comes when the next step has been queued, so that the device is never waited for; always before an
        evaluation or a checkpoint of that step.
        """

    @hookspec
    def evaluation_ended(self, evaluation: EvaluationEnd) -> None:
        """Fire after each evaluation, with the split, the step and the scores."""

    @hookspec
    def checkpoint_saved(self, step: int, path: str) -> None:
        """Fire when a checkpoint is whole on disk."""

    @hookspec
    def note_added(self, note: str) -> None:
        """Fire when a run goes on otherwise than it began, such as with less at once because memory ran out."""

    @hookspec
    def run_failed(self, error: BaseException) -> None:
        """Fire when the run ends by an error or an interrupt, before the error is shown."""

    @hookspec
    def run_ended(self, run: RunEnd) -> None:
        """Fire once at the end of a run that succeeded, with its scores and its folder."""


class BehaviourHooks:
    """What may change a training step. Fired on every process, only for behaviours named in `trainer.behaviours`."""

    @hookspec
    def training_started(self, model: torch.nn.Module) -> None:
        """Fire once before the first step; `model` holds the backbone and the heads."""

    @hookspec
    def forward_starting(self, model: torch.nn.Module, batch: PackedBatch) -> None:
        """Fire before each piece of a step is run through the model; the batch's tensors may be changed in place.

        Where memory runs out within a piece, the step is made again from smaller ones, and its hooks fire again.
        """

    @hookspec
    def backward_starting(self, model: torch.nn.Module, batch: PackedBatch, loss: torch.Tensor) -> None:
        """Fire after the forward pass of a piece, before its gradients are added."""

    @hookspec
    def backward_ended(self, model: torch.nn.Module, batch: PackedBatch, compute_loss: Any) -> None:
        """Fire after the gradients of a piece were added; `compute_loss()` runs the same piece once more.

        Adversarial training is written here: change the embeddings along their gradient, call
        `compute_loss().backward()`, and restore them, also where memory runs out (`finally`).
        """

    @hookspec
    def step_ending(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Fire when all gradients of a step are there and clipped, before the optimizer's update."""
