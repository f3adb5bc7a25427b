"""The trainer: steps, evaluations, checkpoints, early stopping.

A step is a set of examples that the plan names, of one task or of several. Its loss is what `engine/task_weights.py` says of
its targets, with one task the sum over all of them divided by their number, however the step is cut into pieces and shared
among processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial

import numpy as np
import pluggy
import torch
from torch import Tensor

from vertebra.config.schema import TrainerConfig
from vertebra.engine.adapters.adapter import Adapter
from vertebra.engine.blocks.functions import frozen_weights_cast_once
from vertebra.engine.checkpoints import Checkpoints
from vertebra.engine.devices import Devices
from vertebra.engine.events import EvaluationEnd, StepEnd
from vertebra.engine.gradients import add_up_gradients, clip_each
from vertebra.engine.members import (
    Member,
    evaluation_end,
    mean_score,
    numbered,
    of_member,
    primary_score,
    together,
)
from vertebra.engine.model import TaskModel
from vertebra.engine.optimizers import parameter_groups
from vertebra.engine.packing import PackedBatch, cut, pack_tasks
from vertebra.engine.plan import Draw, Plan, draws_of, piece_seed, share
from vertebra.engine.progress import Progress
from vertebra.engine.readout import Readout
from vertebra.engine.seeds import seed_draws
from vertebra.engine.starting_point import StartingPoint
from vertebra.engine.task_weights import StepWeights, weigh
from vertebra.engine.token_budget import memory_for
from vertebra.engine.used_rows import train_used_rows
from vertebra.errors import RunError, StoppedError
from vertebra.host.manager import Host
from vertebra.tasks.features import Features


class Trainer:
    """Trains the tasks of a run. Everything random is a function of the seed and the step: steps can be made again."""

    def __init__(
        self,
        model: TaskModel,
        members: Sequence[Member],
        config: TrainerConfig,
        devices: Devices,
        checkpoints: Checkpoints,
        host: Host,
        behaviours: pluggy.PluginManager,
        *,
        seed: int,
        stop: Callable[[], bool] = lambda: False,
        fisher: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Take the tasks of the run, in the order of `Features.member`, and a settled `config`.

        `stop` is asked after each step; when it says so, the step is saved and `StoppedError` raised. `fisher` has for each
        parameter of the backbone how much its weights matter to an earlier task, which `trainer.ewc` keeps.
        """
        self.adapter: Adapter | None = getattr(model.backbone, "adapter", None)
        self.model, self.members, self.examples = model, list(members), numbered(members)
        self.config, self.devices, self.checkpoints = config, devices, checkpoints
        self.notify, self.behaviours = host.notify, behaviours.hook
        self.seed, self.stop = seed, stop
        self.tasks = [member.task.name for member in members]
        for member in members:
            member.primary(config.metric)  # what is no metric of a task is refused before anything is trained
        assert isinstance(config.learning_rate, float) and isinstance(config.epochs, float)
        assert isinstance(config.warmup, float)
        sizes = [len(member.examples) for member in members]
        draws: tuple[Draw, ...] = ()
        if len(members) > 1:
            shares = [member.share for member in members]
            draws = draws_of(sizes, config.sampling, config.sampling_temperature, shares)
        n_examples = sum(draw.quota for draw in draws) or len(self.examples)
        self.plan = Plan(n_examples, config.batch_size, seed, draws)
        self.total_steps = self.plan.total_steps(config.epochs, config.max_steps)
        self.warmup_steps = round(config.warmup * self.total_steps)
        rates = {member.task.name: member.rate for member in members}
        groups = parameter_groups(model, config, config.learning_rate, rates)
        self.optimizer: torch.optim.Optimizer = host.get("optimizer", config.optimizer).load()(groups, config)
        pulled = config.l2sp > 0 or fisher is not None
        self.start = StartingPoint(model.backbone, config.l2sp, config.ewc, fisher) if pulled else None
        # Behaviours read and change gradients, several processes add them up, a pull acts on all of them: they must be whole.
        # So must checkpoints of shared weights, which another number of processes may read.
        # A behaviour may change how a pass is computed; shards, and adapters of single tasks, have passes of their own. Dropout
        # has other bits in a recorded pass than in a plain one, and a resumed training records anew.
        changed = bool(behaviours.get_plugins())
        self._as_they_come = changed or devices.sharded or model.apart or devices.config.deterministic
        whole = bool(changed or self.start) or devices.accelerator.num_processes > 1 or devices.config.shard
        if not whole:
            shared = [one for member in members for one in member.task.shared]
            train_used_rows(model, self.optimizer, (*shared, *(one for windows in self.examples for one in windows)))
        self.peak_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.schedule: Callable[[int, int, int], float] = host.get("schedule", config.schedule).load()
        self.progress = Progress()
        self.readout = Readout(late=devices.accelerator.device.type == "cuda")
        self.devices.budget.tell = lambda note: self.notify("note_added", note=note)
        self._saved = 0
        self._completed = 0  # tokens that this process read in the step beside those of its rows
        self._ended = 0.0

    @property
    def epoch(self) -> float:
        """Epochs made so far."""
        return self.progress.step / self.plan.steps_per_epoch

    def fit(self) -> None:
        """Train to the end, and leave the best weights in the model (the last ones where nothing was evaluated)."""
        self.behaviours.training_started(model=self.model)
        with frozen_weights_cast_once(), self._recorded():
            self._take_steps()
        if self.progress.best_score is not None:
            self.devices.accelerator.wait_for_everyone()
            self.checkpoints.load_best(self.progress.best_step, self.model.trained)

    def _recorded(self) -> AbstractContextManager[None]:
        """Return what records the backbone's passes on a GPU."""
        if self._as_they_come:
            return nullcontext()
        return self.model.backbone.recorded(self.devices.training_dtype, self.devices.budget.tell)

    def _take_steps(self) -> None:
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
        examples = self._examples(step)
        features = [one for example in examples for one in example]
        if not examples:  # all of them are of tasks that have left
            self.progress.step += 1
            return
        weights = weigh(examples, [member.weight for member in self.members], apart=self.model.apart)
        if not weights.shares:
            raise RunError(f"Step {step + 1} has no targets: examples {self._ids(features)}.")
        losses, norm = self._accumulate(step, features, weights), self._clipped_norm()
        self.readout.read([losses[0], norm], partial(self._require_finite_gradient, step, features))
        self.behaviours.step_ending(model=self.model, optimizer=self.optimizer)
        self.optimizer.step()
        if self.adapter is not None:
            self.adapter.step_ended(step + 1, self.total_steps)
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        rate, tokens = self.peak_rates[0] * factor, sum(map(len, features)) + self._completed
        several = sorted(weights.shares) if len(self.members) > 1 else []
        self.readout.read(
            [losses[0], norm, *(losses[1 + member] for member in several)],
            partial(self._step_ended, self.progress.step, self.epoch, rate, tokens, began, several),
        )
        self.readout.step_queued()

    def _examples(self, step: int) -> list[Sequence[Features]]:
        """Return the features of each row of a step, without those of tasks that have left."""
        examples = [self.examples[example] for example in self.plan.examples(step)]
        left = {number for number, name in enumerate(self.tasks) if self._has_left(name)}
        return [example for example in examples if not left or (example and example[0].member not in left)]

    def _step_ended(
        self,
        step: int,
        epoch: float,
        rate: float,
        tokens: int,
        began: float,
        several: Sequence[int],
        loss: float,
        norm: float,
        *losses: float,
    ) -> None:
        # Where numbers come late, the step before ended while this one had already begun.
        now = time.perf_counter()
        seconds, self._ended = now - max(began, self._ended), now
        by_task = {self.tasks[member]: one for member, one in zip(several, losses, strict=True)}
        self.notify("step_ended", step=StepEnd(step, epoch, loss, rate, norm, tokens, seconds, by_task))

    def _accumulate(self, step: int, features: Sequence[Features], weights: StepWeights) -> Tensor:
        """Add up the gradients of this process's pieces, then those of all processes; return losses, (1 + tasks,).

        The first is the step's loss, the others are the means over each task's targets. Where memory runs out, the gradients
        are made again from smaller pieces.
        """
        accelerator = self.devices.accelerator
        self.model.train()
        mine = share(features, accelerator.num_processes, accelerator.process_index)
        total = self.devices.budget.until_it_fits(
            lambda: self._add_up_pieces(step, mine, weights),
            again=lambda: self.optimizer.zero_grad(set_to_none=True),
            name=self._ids,
        )
        if self.devices.sharded:
            self._keep_pace(step, features, weights)
        elif accelerator.num_processes > 1:
            in_step = [self.tasks[member] for member in weights.shares]
            add_up_gradients(self.model.trained_with(in_step), accelerator)
        if self.start is not None:
            self.start.add_gradients()
        return accelerator.reduce(total, "sum") if accelerator.num_processes > 1 else total

    def _add_up_pieces(self, step: int, features: Sequence[Features], weights: StepWeights) -> Tensor:
        total = torch.zeros(1 + len(self.members), device=self.devices.accelerator.device)
        self._completed = 0
        for number, piece in self._pieces(features):
            seed = piece_seed(self.seed, step, self.devices.accelerator.process_index, number)
            seed_draws(seed, self.devices.accelerator.device)
            with memory_for(piece):
                total += self._add_piece(step, piece, weights, seed)
        return total

    def _pieces(self, features: Sequence[Features]) -> list[tuple[int, list[Features]]]:
        """Cut features into pieces; return those that have targets, with their numbers."""
        padded = self.model.backbone.info.packing == "padded"
        pieces = enumerate(cut(features, self.devices.budget.tokens, padded=padded))
        return [(number, piece) for number, piece in pieces if any(one.n_targets for one in piece)]

    def _keep_pace(self, step: int, features: Sequence[Features], weights: StepWeights) -> None:
        """Make as many passes as the process that has the most pieces: the others need this one's part of the weights."""
        accelerator, completed = self.devices.accelerator, self._completed
        processes = range(accelerator.num_processes)
        passes = [len(self._pieces(share(features, accelerator.num_processes, process))) for process in processes]
        shortest = min((one for one in features if one.n_targets), key=len)
        for _ in range(max(passes) - passes[accelerator.process_index]):
            self._add_piece(step, [shortest], weights, 0, scale=0.0)
        self._completed = completed

    def _add_piece(
        self, step: int, piece: Sequence[Features], weights: StepWeights, seed: int, scale: float = 1.0
    ) -> Tensor:
        """Add the gradients of one piece, times `scale`; return its part of the step's losses, (1 + tasks,)."""
        accelerator = self.devices.accelerator
        batch = self._pack(piece, seed).to(accelerator.device)
        self._completed += batch.n_tokens - sum(map(len, piece))
        self.behaviours.forward_starting(model=self.model, batch=batch)
        found = torch.zeros(1 + len(self.members), device=accelerator.device)

        def compute_loss() -> Tensor:
            with accelerator.autocast():
                outputs = self.model.outputs(batch, self.tasks)
            penalty = self.adapter.penalty() if self.adapter is not None else None
            whole: Tensor | None = None
            for member, part, outputs_P in outputs:
                if not part.n_targets:
                    continue
                assert part.targets is not None
                loss = self.members[member].task.loss(outputs_P, part.targets)
                found[1 + member] = loss.detach() * weights.of_task(member, part.n_targets)
                if self.model.weighting is not None:
                    loss = self.model.weighting(member, loss)
                if penalty is not None:
                    loss = loss + penalty
                loss = loss * (scale * weights.of(member, part.n_targets))
                whole = loss if whole is None else whole + loss
            assert whole is not None
            return whole

        loss = compute_loss()
        found[0] = loss.detach()
        losses = found.clone()
        self.behaviours.backward_starting(model=self.model, batch=batch, loss=loss)
        self.readout.read([loss], partial(self._require_finite_loss, step, piece))
        # Shards get the mean of all processes' gradients, and a step is their sum.
        accelerator.backward(loss * accelerator.num_processes if self.devices.sharded else loss)
        self.behaviours.backward_ended(model=self.model, batch=batch, compute_loss=compute_loss)
        return losses

    def _pack(self, piece: Sequence[Features], seed: int) -> PackedBatch:
        """Return one stream of a piece's sequences, and of those that the tasks' losses compare them with."""
        completed: list[Features] = []
        for member in sorted({one.member for one in piece}):
            own = [one for one in piece if one.member == member]
            completed += of_member(member, self.members[member].task.complete(own, seed))
        return pack_tasks(completed, [member.task.collate for member in self.members], apart=self.model.apart)

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

    def _clipped_norm(self) -> Tensor:
        if not self.devices.sharded:
            apart = [self.model.own_parameters(task) for task in self.tasks] if self.model.apart else None
            return clip_each(apart or [self.model.parameters()], self.config.clip)
        from vertebra.engine.sharding import clip_shards

        return clip_shards(self.model.parameters(), self.config.clip)

    def _ids(self, features: Sequence[Features]) -> str:
        ids = list(dict.fromkeys(self._id(one) for one in features))
        return ", ".join(ids[:8]) + (f" and {len(ids) - 8} more" if len(ids) > 8 else "")

    def _id(self, one: Features) -> str:
        row = self.members[one.member].names[one.example]
        return row if len(self.members) == 1 else f"{self.tasks[one.member]} {row}"

    # --- between steps

    def _evaluation_is_due(self) -> bool:
        every = self.plan.steps_per_epoch if self.config.evaluate_every == "epoch" else self.config.evaluate_every
        return self.progress.step % every == 0 or self.progress.step == self.total_steps

    def _checkpoint_is_due(self) -> bool:
        every = self.config.checkpoint_every
        return every is not None and self.progress.step % every == 0

    def _out_of_patience(self) -> bool:
        return all(map(self._has_left, self.tasks))

    def _has_left(self, task: str) -> bool:
        """Whether a task's own score has been stale for so long that its examples are left out."""
        return self.config.patience is not None and self.progress.stale.get(task, 0) >= self.config.patience

    def _evaluate(self) -> None:
        self.readout.settle()
        ends: dict[str, EvaluationEnd] = {}
        scores: list[tuple[float, bool]] = []
        for member in self.members:
            if member.evaluate is None:
                continue
            began = time.perf_counter()
            found = member.evaluate()
            scores.append(primary_score(member, found, self.config.metric))
            ends[member.task.name] = evaluation_end(
                found,
                step=self.progress.step,
                epoch=self.epoch,
                seconds=time.perf_counter() - began,
                best=self.progress.note_task(member.task.name, scores[-1][0], higher=scores[-1][1]),
            )
        if ends:
            mean, higher = mean_score(scores)
            best = self.progress.note(mean, higher=higher)
            self.notify("evaluation_ended", evaluation=together(self.members, ends, best=best))

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
