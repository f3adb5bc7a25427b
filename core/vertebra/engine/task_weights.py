"""What the losses of several tasks weigh in one step.

A step's loss is the weighted mean of its tasks' losses, each the sum over the task's targets in the step divided by their
number. A task weighs as many examples as it has in the step, times its own weight:

    loss = Σ_t  w_t m_t / (Σ_u w_u m_u)  ·  (Σ loss of a target of t) / n_t

with m_t examples and n_t targets of task t. So a task of many targets, such as a tag for each word, does not outweigh one of
a single target, and what sampling says of examples holds for gradients. With one task it is the mean over all targets.

Where tasks share nothing that is trained there is nothing to weigh: each has the loss that it has alone, and a step their sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vertebra.tasks.features import Features

LOG_VARIANCE_RATE = 0.01
"""The peak learning rate of the log variances: a run has few steps, and they have to go as far as losses differ."""


@dataclass(frozen=True)
class StepWeights:
    """What each task weighs in a step, by its number."""

    shares: Mapping[int, float]
    """Of the step's loss; they add up to 1, or are 1 for each task. A task without targets in the step has none."""
    targets: Mapping[int, int]
    """n_t, the targets of each task."""

    def of(self, member: int, n_targets: int) -> float:
        """Return what the mean over so many of a task's targets adds to its loss in the step, and of that to the step's."""
        return self.shares[member] * self.of_task(member, n_targets)

    def of_task(self, member: int, n_targets: int) -> float:
        """Return what the mean over so many of a task's targets adds to the mean over all of them."""
        return n_targets / self.targets[member]


def weigh(examples: Sequence[Sequence[Features]], weights: Sequence[float], *, apart: bool = False) -> StepWeights:
    """Return the weights in a step of these examples, each its sequences; `weights` has w_t of each task.

    `apart` is for tasks that share nothing that is trained; `weights` plays no part then.
    """
    targets: Counter[int] = Counter()
    counts: Counter[int] = Counter()
    for example in examples:
        if n_targets := sum(one.n_targets for one in example):
            targets[example[0].member] += n_targets
            counts[example[0].member] += 1
    if apart:
        return StepWeights(dict.fromkeys(counts, 1.0), targets)
    parts = {member: weights[member] * count for member, count in counts.items()}
    whole = sum(parts.values())
    return StepWeights({member: part / whole for member, part in parts.items()}, targets)


class UncertaintyWeighting(nn.Module):
    """Learns what losses weigh (Kendall, Gal and Cipolla, 2018): each is divided by a variance σ² that is trained.

    A task's loss L becomes L / σ² + log σ, their form for likelihoods of classes; σ is 1 at first. What is trained is log σ²,
    one number a task, without weight decay, at the rate `LOG_VARIANCE_RATE`.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(tasks))

    def forward(self, member: int, loss: Tensor) -> Tensor:
        """Return the weighted loss of the task of this number."""
        log_variance = self.log_variances[member]
        weighted: Tensor = loss * torch.exp(-log_variance) + log_variance / 2
        return weighted

    def factors(self) -> list[float]:
        """Return 1 / σ² of each task."""
        found: list[float] = torch.exp(-self.log_variances.detach()).tolist()
        return found
