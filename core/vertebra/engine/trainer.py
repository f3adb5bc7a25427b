"""The trainer: steps, evaluations, checkpoints, early stopping.

A step is a set of examples that the plan names. Its loss is the sum over all targets of the step divided by their number,
however the step is cut into pieces and shared among processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pluggy
import torch
from torch import Tensor

from vertebra.config.schema import TrainerConfig
from vertebra.engine.checkpoints import Checkpoints
from vertebra.engine.devices import Devices
from vertebra.engine.evaluate import Evaluation
from vertebra.engine.events import EvaluationEnd, StepEnd
from vertebra.engine.model import TaskModel
from vertebra.engine.optimizers import parameter_groups
from vertebra.engine.packing import PackedBatch, cut, pack
from vertebra.engine.plan import Plan, piece_seed, share
from vertebra.errors import ConfigError, RunError, StoppedError
from vertebra.host.manager import Host
from vertebra.names import unknown
from vertebra.tasks.features import Features
from vertebra.tasks.task import Task


@dataclass
class Progress:
    """How far a run is: all that a checkpoint needs beside weights and the optimizer's state."""

    step: int = 0
    best_score: float | None = None
    best_step: int = 0
    stale: int = 0
    """Evaluations since the best one."""

    @classmethod
    def read(cls, state: Mapping[str, Any]) -> Progress:
        """Return the progress in a checkpoint's state; `RunError` where there is none."""
        score, counts = state.get("best_score"), [state.get(name) for name in ("step", "best_step", "stale")]
        whole = all(isinstance(count, int) and count >= 0 for count in counts)
        if not whole or not isinstance(score, float | int | None) or set(state) != set(asdict(cls())):
            raise RunError(f"The newest checkpoint is not one of this run: its state is {str(dict(state))[:80]}.")
        return cls(**state)


class Trainer:
    """Trains one task. Everything random is a function of the seed and the step, so that steps can be made again."""

    def __init__(
        self,
        model: TaskModel,
        task: Task,
        examples: Sequence[Sequence[Features]],
        names: Sequence[str],
        evaluate: Callable[[], Evaluation] | None,
        config: TrainerConfig,
        devices: Devices,
        checkpoints: Checkpoints,
        host: Host,
        behaviours: pluggy.PluginManager,
        *,
        higher_is_better: bool = True,
        seed: int,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take the features of each training row (`examples`, with the rows' ids in `names`) and a settled `config`.

        `stop` is asked after each step; when it says so, the step is saved and `StoppedError` raised.
        """
        self.model, self.task, self.examples, self.names = model, task, examples, names
        self.evaluate, self.config, self.devices, self.checkpoints = evaluate, config, devices, checkpoints
        self.notify, self.behaviours = host.notify, behaviours.hook
        self.higher_is_better, self.seed, self.stop = higher_is_better, seed, stop
        assert isinstance(config.learning_rate, float) and isinstance(config.epochs, float)
        assert isinstance(config.warmup, float)
        self.plan = Plan(len(examples), config.batch_size, seed)
        self.total_steps = self.plan.total_steps(config.epochs, config.max_steps)
        self.warmup_steps = round(config.warmup * self.total_steps)
        groups = parameter_groups(model, config, config.learning_rate)
        self.optimizer: torch.optim.Optimizer = host.get("optimizer", config.optimizer).load()(groups, config)
        self.peak_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.schedule: Callable[[int, int, int], float] = host.get("schedule", config.schedule).load()
        self.progress = Progress()
        self._saved = 0
        self.metric = config.metric or task.metrics[0]
        if self.metric not in task.metrics:
            raise ConfigError(f"trainer.metric: {unknown('metric of this task', self.metric, task.metrics)}")

    @property
    def epoch(self) -> float:
        """Epochs made so far."""
        return self.progress.step / self.plan.steps_per_epoch

    def fit(self) -> None:
        """Train to the end, and leave the best weights in the model (the last ones where nothing was evaluated)."""
        self.behaviours.training_started(model=self.model)
        while self.progress.step < self.total_steps and not self._out_of_patience():
            if self.progress.step % self.plan.steps_per_epoch == 0:
                self.notify("epoch_started", epoch=round(self.epoch))
            self._step()
            if self._evaluation_is_due():
                self._evaluate()
                self._save()
            elif self._checkpoint_is_due():
                self._save()
            if self.stop() and self.progress.step < self.total_steps:
                if self._saved != self.progress.step:
                    self._save()
                raise StoppedError(f"Stopped after step {self.progress.step} of {self.total_steps}.")
        if self.progress.best_score is not None:
            self.devices.accelerator.wait_for_everyone()
            self.checkpoints.load_best(self.progress.best_step, self.model.trained)

    def resume(self) -> None:
        """Take up the newest whole checkpoint, if there is one: weights, the optimizer's state, and the progress."""
        state = self.checkpoints.load_newest(self.model.trained, self.optimizer)
        if state is not None:
            self.progress = Progress.read(state)

    # --- one step

    def _step(self) -> None:
        step, began = self.progress.step, time.perf_counter()
        self.notify("step_started", step=step)
        factor = self.schedule(step, self.warmup_steps, self.total_steps)
        for group, rate in zip(self.optimizer.param_groups, self.peak_rates, strict=True):
            group["lr"] = rate * factor
        features = [one for example in self.plan.examples(step) for one in self.examples[example]]
        n_targets = sum(one.n_targets for one in features)
        if n_targets == 0:
            raise RunError(f"Step {step + 1} has no targets: examples {self._ids(features)}.")
        loss = self._accumulate(step, features, n_targets)
        norm = self._clipped_norm()
        if not np.isfinite(norm):
            raise RunError(
                f"The gradient of step {step + 1} is not finite (loss {loss:.4g}); examples {self._ids(features)}. "
                "Lower trainer.learning_rate, or use gpu.precision=fp32."
            )
        self.behaviours.step_ending(model=self.model, optimizer=self.optimizer)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        self.notify(
            "step_ended",
            step=StepEnd(
                step=self.progress.step,
                epoch=self.epoch,
                loss=loss,
                learning_rate=self.peak_rates[0] * factor,
                gradient_norm=norm,
                tokens=sum(map(len, features)),
                seconds=time.perf_counter() - began,
            ),
        )

    def _accumulate(self, step: int, features: Sequence[Features], n_targets: int) -> float:
        """Add up the gradients of this process's pieces, then those of all processes; return the step's loss."""
        accelerator = self.devices.accelerator
        self.model.train()
        total = torch.zeros((), device=accelerator.device)
        assert isinstance(self.devices.config.token_budget, int)
        mine = share(features, accelerator.num_processes, accelerator.process_index)
        pieces = cut(mine, self.devices.config.token_budget, padded=self.model.backbone.info.packing == "padded")
        for number, piece in enumerate(pieces):
            torch.manual_seed(piece_seed(self.seed, step, accelerator.process_index, number))
            batch = pack(piece, self.task.collate).to(accelerator.device)
            if batch.n_targets == 0:
                continue
            self.behaviours.forward_starting(model=self.model, batch=batch)

            def compute_loss(batch: PackedBatch = batch) -> Tensor:
                with accelerator.autocast():
                    outputs = self.model(batch, self.task.name)
                assert batch.targets is not None
                return self.task.loss(outputs, batch.targets) * (batch.n_targets / n_targets)

            loss = compute_loss()
            self.behaviours.backward_starting(model=self.model, batch=batch, loss=loss)
            if not torch.isfinite(loss):
                raise RunError(
                    f"The loss of step {step + 1} is not finite; examples {self._ids(piece)}. "
                    "Look at these with `vertebra inspect`, lower trainer.learning_rate, or use gpu.precision=fp32."
                )
            accelerator.backward(loss)
            self.behaviours.backward_ended(model=self.model, batch=batch, compute_loss=compute_loss)
            total += loss.detach()
        if accelerator.num_processes > 1:
            total = accelerator.reduce(total, "sum")
            self._add_up_gradients()
        return float(total)

    def _add_up_gradients(self) -> None:
        """Add the gradients of all processes: once a step, so that processes with unequal numbers of pieces never wait."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        flat = torch.cat(
            [
                (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).flatten()
                for parameter in parameters
            ]
        )
        flat = self.devices.accelerator.reduce(flat, "sum")
        for parameter, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = gradient.view_as(parameter)

    def _clipped_norm(self) -> float:
        limit = float("inf") if self.config.clip is None else self.config.clip
        return float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))

    def _ids(self, features: Sequence[Features]) -> str:
        ids = list(dict.fromkeys(self.names[one.example] for one in features))
        return ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")

    # --- between steps

    def _evaluation_is_due(self) -> bool:
        every = self.plan.steps_per_epoch if self.config.evaluate_every == "epoch" else self.config.evaluate_every
        return self.progress.step % every == 0 or self.progress.step == self.total_steps

    def _checkpoint_is_due(self) -> bool:
        every = self.config.checkpoint_every
        return every is not None and self.progress.step % every == 0

    def _out_of_patience(self) -> bool:
        return self.config.patience is not None and self.progress.stale >= self.config.patience

    def _evaluate(self) -> None:
        if self.evaluate is not None:
            began = time.perf_counter()
            evaluation = self.evaluate()
            best = self._note_score(evaluation)
            self.notify(
                "evaluation_ended",
                evaluation=EvaluationEnd(
                    step=self.progress.step,
                    epoch=self.epoch,
                    split=evaluation.split,
                    scores=evaluation.scores,
                    loss=evaluation.loss,
                    seconds=time.perf_counter() - began,
                    best=best,
                ),
            )

    def _save(self) -> None:
        self._saved = self.progress.step
        if self.devices.accelerator.is_main_process:
            self._write()
        self.devices.accelerator.wait_for_everyone()

    def _write(self) -> None:
        step, best_step = self.progress.step, self.progress.best_step
        if best_step == step and self.progress.best_score is not None:
            self.checkpoints.save_best(step, self.model.trained)
        place = self.checkpoints.save(step, self.model.trained, self.optimizer, asdict(self.progress))
        self.checkpoints.forget(best_step)
        self.notify("checkpoint_saved", step=step, path=str(place))

    def _note_score(self, evaluation: Evaluation) -> bool:
        """Keep the score if it is the best so far; say whether it is."""
        score, best = evaluation.scores[self.metric], self.progress.best_score
        if best is not None and not (score > best if self.higher_is_better else score < best):
            self.progress.stale += 1
            return False
        self.progress.best_score, self.progress.best_step, self.progress.stale = score, self.progress.step, 0
        return True
