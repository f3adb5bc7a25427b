"""The trainer: steps, evaluations, checkpoints, early stopping.

A step is a set of examples that the plan names. Its loss is the sum over all targets of the step divided by their number,
however the step is cut into pieces and shared among processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pluggy
import torch
from torch import Tensor

from vertebra.config.schema import TrainerConfig
from vertebra.engine.adapters.adapter import Adapter
from vertebra.engine.checkpoints import Checkpoints
from vertebra.engine.devices import Devices
from vertebra.engine.evaluate import Evaluation
from vertebra.engine.events import EvaluationEnd, StepEnd
from vertebra.engine.gradients import clip_gradients
from vertebra.engine.model import TaskModel
from vertebra.engine.optimizers import parameter_groups
from vertebra.engine.packing import cut, pack
from vertebra.engine.plan import Plan, piece_seed, share
from vertebra.engine.readout import Readout
from vertebra.engine.seeds import seed_draws
from vertebra.engine.starting_point import StartingPoint
from vertebra.engine.token_budget import memory_for
from vertebra.engine.used_rows import train_used_rows
from vertebra.errors import ConfigError, RunError, StoppedError
from vertebra.host.manager import Host
from vertebra.names import unknown
from vertebra.tasks.features import Features
from vertebra.tasks.task import Task

LOSS = "loss"
"""What `trainer.metric` calls the validation loss."""


@dataclass
class Progress:
    """How far a run is: all that a checkpoint needs beside weights and the optimizer's state."""

    step: int = 0
    best_score: float | None = None
    best_step: int = 0
    stale: int = 0
    """Evaluations since the best one."""
    token_budget: int = 0
    """Tokens of one pass, which are fewer where memory ran out."""

    @classmethod
    def read(cls, state: Mapping[str, Any]) -> Progress:
        """Return the progress in a checkpoint's state; `RunError` where there is none."""
        score = state.get("best_score")
        counts = [state.get(name) for name in ("step", "best_step", "stale", "token_budget")]
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
        self.adapter: Adapter | None = getattr(model.backbone, "adapter", None)
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
        self.start = StartingPoint(model.backbone, config.l2sp) if config.l2sp else None
        # Behaviours read and change gradients, several processes add them up, a pull acts on all of them: they must be whole.
        # So must checkpoints of shared weights, which another number of processes may read.
        whole = (
            bool(behaviours.get_plugins() or self.start)
            or devices.accelerator.num_processes > 1
            or devices.config.shard
        )
        if not whole:
            train_used_rows(model, self.optimizer, (*task.shared, *(one for windows in examples for one in windows)))
        self.peak_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.schedule: Callable[[int, int, int], float] = host.get("schedule", config.schedule).load()
        self.progress = Progress()
        self.readout = Readout(late=devices.accelerator.device.type == "cuda")
        self.devices.budget.tell = lambda note: self.notify("note_added", note=note)
        self._saved = 0
        self._completed = 0  # tokens that this process read in the step beside those of its rows
        self._ended = 0.0
        self.metric = config.metric or task.metrics[0]
        if self.metric not in (*task.metrics, LOSS):
            raise ConfigError(f"trainer.metric: {unknown('metric of this task', self.metric, (*task.metrics, LOSS))}")

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
            self.devices.budget.tokens = self.progress.token_budget

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
        loss, norm = self._accumulate(step, features, n_targets), self._clipped_norm()
        self.readout.read([loss, norm], partial(self._require_finite_gradient, step, features))
        self.behaviours.step_ending(model=self.model, optimizer=self.optimizer)
        self.optimizer.step()
        if self.adapter is not None:
            self.adapter.step_ended(step + 1, self.total_steps)
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        rate, tokens = self.peak_rates[0] * factor, sum(map(len, features)) + self._completed
        self.readout.read([loss, norm], partial(self._step_ended, self.progress.step, self.epoch, rate, tokens, began))
        self.readout.step_queued()

    def _step_ended(
        self, step: int, epoch: float, rate: float, tokens: int, began: float, loss: float, norm: float
    ) -> None:
        # Where numbers come late, the step before ended while this one had already begun.
        now = time.perf_counter()
        seconds, self._ended = now - max(began, self._ended), now
        self.notify("step_ended", step=StepEnd(step, epoch, loss, rate, norm, tokens, seconds))

    def _accumulate(self, step: int, features: Sequence[Features], n_targets: int) -> Tensor:
        """Add up the gradients of this process's pieces, then those of all processes; return the step's loss.

        Where memory runs out, the gradients are made again from smaller pieces.
        """
        accelerator = self.devices.accelerator
        self.model.train()
        mine = share(features, accelerator.num_processes, accelerator.process_index)
        total = self.devices.budget.until_it_fits(
            lambda: self._add_up_pieces(step, mine, n_targets),
            again=lambda: self.optimizer.zero_grad(set_to_none=True),
            name=self._ids,
        )
        if self.devices.sharded:
            self._keep_pace(step, features)
        elif accelerator.num_processes > 1:
            self._add_up_gradients()
        if self.start is not None:
            self.start.add_gradients()
        return accelerator.reduce(total, "sum") if accelerator.num_processes > 1 else total

    def _add_up_pieces(self, step: int, features: Sequence[Features], n_targets: int) -> Tensor:
        total = torch.zeros((), device=self.devices.accelerator.device)
        self._completed = 0
        for number, piece in self._pieces(features):
            seed = piece_seed(self.seed, step, self.devices.accelerator.process_index, number)
            seed_draws(seed, self.devices.accelerator.device)
            with memory_for(piece):
                total += self._add_piece(step, piece, n_targets, seed)
        return total

    def _pieces(self, features: Sequence[Features]) -> list[tuple[int, list[Features]]]:
        """Cut features into pieces; return those that have targets, with their numbers."""
        padded = self.model.backbone.info.packing == "padded"
        pieces = enumerate(cut(features, self.devices.budget.tokens, padded=padded))
        return [(number, piece) for number, piece in pieces if any(one.n_targets for one in piece)]

    def _keep_pace(self, step: int, features: Sequence[Features]) -> None:
        """Make as many passes as the process that has the most pieces: the others need this one's part of the weights."""
        accelerator, completed = self.devices.accelerator, self._completed
        processes = range(accelerator.num_processes)
        passes = [len(self._pieces(share(features, accelerator.num_processes, process))) for process in processes]
        shortest = min((one for one in features if one.n_targets), key=len)
        for _ in range(max(passes) - passes[accelerator.process_index]):
            self._add_piece(step, [shortest], 1, 0, weight=0.0)
        self._completed = completed

    def _add_piece(
        self, step: int, piece: Sequence[Features], n_targets: int, seed: int, weight: float = 1.0
    ) -> Tensor:
        """Add the gradients of one piece; return its part of the step's loss."""
        accelerator = self.devices.accelerator
        batch = pack(self.task.complete(piece, seed), self.task.collate).to(accelerator.device)
        self._completed += batch.n_tokens - sum(map(len, piece))
        self.behaviours.forward_starting(model=self.model, batch=batch)

        def compute_loss() -> Tensor:
            with accelerator.autocast():
                outputs = self.model(batch, self.task.name)
            assert batch.targets is not None
            loss = self.task.loss(outputs, batch.targets)
            if self.adapter is not None and (penalty := self.adapter.penalty()) is not None:
                loss = loss + penalty
            return loss * (weight * batch.n_targets / n_targets)

        loss = compute_loss()
        self.behaviours.backward_starting(model=self.model, batch=batch, loss=loss)
        self.readout.read([loss], partial(self._require_finite_loss, step, piece))
        # Shards get the mean of all processes' gradients, and a step is their sum.
        accelerator.backward(loss * accelerator.num_processes if self.devices.sharded else loss)
        self.behaviours.backward_ended(model=self.model, batch=batch, compute_loss=compute_loss)
        return loss.detach()

    def _require_finite_loss(self, step: int, piece: Sequence[Features], loss: float) -> None:
        if not np.isfinite(loss):
            raise RunError(
                f"The loss of step {step + 1} is not finite; examples {self._ids(piece)}. "
                "Look at these with `vertebra inspect`, lower trainer.learning_rate, or use gpu.precision=fp32."
            )

    def _require_finite_gradient(self, step: int, features: Sequence[Features], loss: float, norm: float) -> None:
        if not np.isfinite(norm):
            raise RunError(
                f"The gradient of step {step + 1} is not finite (loss {loss:.4g}); examples {self._ids(features)}. "
                "Lower trainer.learning_rate, or use gpu.precision=fp32."
            )

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

    def _clipped_norm(self) -> Tensor:
        if not self.devices.sharded:
            return clip_gradients(self.model.parameters(), self.config.clip)
        from vertebra.engine.sharding import clip_shards

        return clip_shards(self.model.parameters(), self.config.clip)

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
        self.readout.settle()
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
        self.readout.settle()
        self._saved = self.progress.step
        self.devices.budget.agree(self.devices.smallest)
        self.progress.token_budget = self.devices.budget.tokens
        if self.devices.accelerator.is_main_process or self.devices.sharded:
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
        score = evaluation.loss if self.metric == LOSS else evaluation.scores[self.metric]
        best = self.progress.best_score
        if best is not None and not (score > best if self.higher_is_better else score < best):
            self.progress.stale += 1
            return False
        self.progress.best_score, self.progress.best_step, self.progress.stale = score, self.progress.step, 0
        return True
