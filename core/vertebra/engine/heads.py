"""Many heads on one frozen backbone, trained side by side over one pass of its hidden states.

Heads may differ in rates, decay, optimizer, seed and structure. Those that see the same batches share them, and those
that are a linear layer, with or without dropout before it, share the matrix product too.

Letters: P positions that the heads read, D hidden width, K heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vertebra.config.defaults import plain
from vertebra.config.schema import RunConfig, TrainerConfig
from vertebra.config.validate import read, read_field
from vertebra.engine.blocks.functions import drop
from vertebra.engine.devices import Devices
from vertebra.engine.optimizers import parameter_groups
from vertebra.engine.packing import PackedBatch, cut, pack
from vertebra.engine.plan import Plan, piece_seed
from vertebra.engine.seeds import seed_draws
from vertebra.errors import ConfigError, RunError
from vertebra.host.manager import Host
from vertebra.tasks.features import Features
from vertebra.tasks.heads import Dropout, run_head
from vertebra.tasks.task import Task

BuildHead = Callable[[int], nn.Module]


@dataclass(frozen=True)
class HeadSettings:
    """What one head is trained with."""

    trainer: TrainerConfig
    """Without `auto`. What is about evaluations, checkpoints and behaviours has no effect."""
    seed: int = 1
    """Sets the head's first weights, the order of examples and dropout, as in a run with that seed."""
    build_head: BuildHead | None = None
    """Makes the head for a hidden width D; by default the task's own `build_head`."""


@dataclass(frozen=True)
class TrainedHead:
    """A head after its last step."""

    settings: HeadSettings
    """What it was trained with."""
    head: nn.Module
    """The head, trained: hidden states (P, D) to outputs."""
    losses: list[float]
    """The loss of each step; not finite where the head diverged, which leaves the others alone."""


def train_heads(
    task: Task, examples: Sequence[Sequence[Features]], settings: Sequence[HeadSettings], devices: Devices, host: Host
) -> list[TrainedHead]:
    """Train a head for each of the settings, and return them in that order.

    `examples` has for each row its features as `FrozenReader.read` returns them. Each head is the one that a run with
    its settings and `backbone.freeze=true` would have after its last step, up to rounding. Settings with equal seed, batch
    size, number of steps and `build_head` are trained in one pass; others are passes of their own. Raises `RunError` for
    features without hidden states, and for a step without targets; `ConfigError` for settings that cannot be.
    """
    refuse_wrong(settings)
    passes: dict[object, list[int]] = {}
    for number, one in enumerate(settings):
        same = (one.seed, one.trainer.batch_size, one.trainer.epochs, one.trainer.max_steps, one.build_head)
        passes.setdefault(same, []).append(number)
    trained: dict[int, TrainedHead] = {}
    for numbers in passes.values():
        heads = _train_pass(task, examples, [settings[number] for number in numbers], devices, host)
        trained.update(zip(numbers, heads, strict=True))
    return [trained[number] for number in range(len(settings))]


def refuse_wrong(settings: Sequence[HeadSettings]) -> None:
    """Raise `ConfigError` with a line for each value of these settings that cannot be, as a run's are checked."""
    errors: list[str] = []
    for number, one in enumerate(settings, start=1):
        found: list[str] = []
        read(type(one.trainer), plain(one.trainer), "trainer", found)
        read_field(RunConfig, "seed", one.seed, found)
        errors += [f"Head {number}: {line}" for line in found]
    if errors:
        raise ConfigError("\n".join(errors))


# --- one pass


@dataclass
class _Learner:
    """A head with its own optimizer."""

    head: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int, int, int], float]
    warmup_steps: int
    total_steps: int
    clip: float | None
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peak_rates = [group["lr"] for group in self.optimizer.param_groups]

    def update(self, step: int, loss: float) -> None:
        """Change the weights by the gradients of a step."""
        factor = self.schedule(step, self.warmup_steps, self.total_steps)
        for group, rate in zip(self.optimizer.param_groups, self.peak_rates, strict=True):
            group["lr"] = rate * factor
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.head.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.losses.append(loss)


def _train_pass(
    task: Task, examples: Sequence[Sequence[Features]], settings: Sequence[HeadSettings], devices: Devices, host: Host
) -> list[TrainedHead]:
    """Train heads that see the same batches."""
    first = settings[0]
    plan = Plan(len(examples), first.trainer.batch_size, first.seed)
    assert not isinstance(first.trainer.epochs, str)
    total_steps = plan.total_steps(first.trainer.epochs, first.trainer.max_steps)
    width = _width(examples)
    learners = [_learner(task, one, width, total_steps, devices, host) for one in settings]
    for step in range(total_steps):
        features = [one for example in plan.examples(step) for one in examples[example]]
        losses = _accumulate(task, [learner.head for learner in learners], features, first.seed, step, devices)
        for learner, loss in zip(learners, losses, strict=True):
            learner.update(step, loss)
    return [
        TrainedHead(one, learner.head.eval(), learner.losses) for one, learner in zip(settings, learners, strict=True)
    ]


def _width(examples: Sequence[Sequence[Features]]) -> int:
    """Return the hidden width D of features that a frozen backbone has read."""
    widths = {None if one.hidden is None else one.hidden.shape[1] for features in examples for one in features}
    if len(widths) != 1 or None in widths:
        raise RunError(
            "The heads' features have no hidden states, or not of one backbone: read them by a FrozenReader."
        )
    return int(widths.pop())  # type: ignore[arg-type]  # it is no None


def _learner(
    task: Task, settings: HeadSettings, width: int, total_steps: int, devices: Devices, host: Host
) -> _Learner:
    config = settings.trainer
    assert not isinstance(config.learning_rate, str) and not isinstance(config.warmup, str)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head = (settings.build_head or task.build_head)(width).to(devices.accelerator.device).train()
    groups = parameter_groups(head, config, config.learning_rate)
    return _Learner(
        head,
        host.get("optimizer", config.optimizer).load()(groups, config),
        host.get("schedule", config.schedule).load(),
        round(config.warmup * total_steps),
        total_steps,
        config.clip,
    )


def _accumulate(
    task: Task, heads: Sequence[nn.Module], features: Sequence[Features], seed: int, step: int, devices: Devices
) -> list[float]:
    """Add up the gradients of a step in every head, cut into pieces as the trainer cuts it; return the heads' losses."""
    n_targets = sum(one.n_targets for one in features)
    if n_targets == 0:
        raise RunError(f"Step {step + 1} has no targets.")
    accelerator = devices.accelerator
    assert isinstance(devices.config.token_budget, int)
    totals_K = torch.zeros(len(heads), device=accelerator.device)
    for number, piece in enumerate(cut(features, devices.config.token_budget)):
        batch = pack(task.complete(piece, piece_seed(seed, step, 0, number)), task.collate).to(accelerator.device)
        if batch.n_targets == 0:
            continue
        assert batch.targets is not None
        with accelerator.autocast():
            outputs = run_heads(heads, batch, piece_seed(seed, step, 0, number))
        share = batch.n_targets / n_targets
        losses_K = torch.stack([task.loss(one.float(), batch.targets) * share for one in outputs])
        losses_K.sum().backward()  # type: ignore[no-untyped-call]
        totals_K += losses_K.detach()
    losses: list[float] = totals_K.tolist()
    return losses


def run_heads(heads: Sequence[nn.Module], batch: PackedBatch, seed: int) -> Sequence[Tensor]:
    """Return the outputs (P, …) of each head on a batch with hidden states; what they drop, set by `seed`, is the same."""
    assert batch.hidden_PD is not None
    usual = [_usual(head) for head in heads]
    linears = [found[1] for found in usual if found is not None]
    rates = {found[0] for found in usual if found is not None}
    if len(linears) < len(heads) or len(rates) > 1 or len({linear.bias is None for linear in linears}) > 1:
        return [_run_alone(head, batch.hidden_PD, batch, seed) for head in heads]
    seed_draws(seed, batch.hidden_PD.device)
    dropped_PD = drop(batch.hidden_PD, rates.pop())
    weight = torch.cat([linear.weight for linear in linears])
    bias = None if linears[0].bias is None else torch.cat([linear.bias for linear in linears])
    return torch.split(F.linear(dropped_PD, weight, bias), [linear.out_features for linear in linears], dim=1)


def _run_alone(head: nn.Module, hidden_PD: Tensor, batch: PackedBatch, seed: int) -> Tensor:
    seed_draws(seed, hidden_PD.device)
    return run_head(head, hidden_PD, batch)


def _usual(head: nn.Module) -> tuple[float, nn.Linear] | None:
    """Return the dropout rate and the linear layer of a head that has no more than these; None for any other."""
    layers = list(head) if type(head) is nn.Sequential else [head]
    rate = 0.0
    if len(layers) == 2 and type(layers[0]) is Dropout:
        rate = layers[0].p
        del layers[0]
    linear = layers[0] if len(layers) == 1 else None
    return (rate, linear) if type(linear) is nn.Linear else None
