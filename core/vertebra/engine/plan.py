"""The plan of training: which examples make each step, a pure function of (seed, epoch, step).

Nothing of it is state, so a run can be taken up at any step, and any number of processes agree on it without talking.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vertebra.tasks.features import Features


class Draw(NamedTuple):
    """How many examples of one task an epoch has."""

    size: int
    """Examples that the task has."""
    quota: int
    """Of them in an epoch: each is seen as often as any other, give or take one, however many epochs there are."""


@dataclass(frozen=True)
class Plan:
    """Steps over `n_examples` rows, `batch_size` of them a step, in a new order each epoch.

    The rows of several tasks are numbered one task behind the other. `draws` says for each task how many of its rows an
    epoch has, `n_examples` altogether; without it every epoch sees every row once.
    """

    n_examples: int
    batch_size: int
    seed: int
    draws: tuple[Draw, ...] = ()

    @property
    def steps_per_epoch(self) -> int:
        """Steps that see every example once; the last one of an epoch may be smaller."""
        return math.ceil(self.n_examples / self.batch_size)

    def total_steps(self, epochs: float, max_steps: int | None) -> int:
        """Return the steps of a run, at least one."""
        steps = max(1, round(epochs * self.steps_per_epoch))
        return steps if max_steps is None else min(steps, max_steps)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the order of all examples in an epoch."""
        return _order(self.seed, epoch, self.n_examples, self.draws)

    def examples(self, step: int) -> NDArray[np.int64]:
        """Return the examples of a step, counted from 0 over the whole run."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self.order(epoch)[place * self.batch_size : (place + 1) * self.batch_size]


Sampling = Literal["proportional", "temperature", "uniform"]


def draws_of(
    sizes: Sequence[int], sampling: Sampling, temperature: float, shares: Sequence[float | None] = ()
) -> tuple[Draw, ...]:
    """Return how many examples of each task an epoch has: as many altogether as there are, each task at least one.

    Shares are proportional to `size ** (1 / temperature)` (Arivazhagan and others, 2019): 1 is proportional, and the
    larger the temperature, the more alike they are. Proportional sampling sees every example once an epoch. Where `shares`
    gives some tasks a share of an epoch, that holds for the others, and the epoch has so many more examples.
    """
    given = {number: share for number, share in enumerate(shares) if share is not None}
    if given:
        others = [size for number, size in enumerate(sizes) if number not in given]
        own = iter(draws_of(others, sampling, temperature) or [Draw(size, size) for size in others])
        total = sum(others) / (1 - sum(given.values()))
        return tuple(
            Draw(size, max(1, round(given[number] * total))) if number in given else next(own)
            for number, size in enumerate(sizes)
        )
    if sampling == "proportional":
        return ()
    powers = np.asarray(sizes, dtype=np.float64) ** (0.0 if sampling == "uniform" else 1 / temperature)
    total = sum(sizes)
    wanted = np.maximum(1.0, powers / powers.sum() * total)
    quotas = np.floor(wanted).astype(int)
    # What rounding left over goes to those that it took most from; what the ones of the smallest took, from the largest.
    for number in np.argsort(quotas - wanted, kind="stable")[: max(0, total - quotas.sum())]:
        quotas[number] += 1
    while quotas.sum() > total:
        quotas[quotas.argmax()] -= 1
    return tuple(map(Draw, sizes, quotas.tolist()))


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n_examples: int, draws: tuple[Draw, ...]) -> NDArray[np.int64]:
    order = np.random.default_rng([seed, epoch]).permutation(n_examples)
    if draws:
        starts = np.cumsum([0, *(draw.size for draw in draws)])
        pool = [start + _drawn(seed, epoch, *one) for start, one in zip(starts, enumerate(draws), strict=False)]
        order = np.concatenate(pool)[order]
    order.flags.writeable = False  # many steps read it
    return order


def _drawn(seed: int, epoch: int, number: int, draw: Draw) -> NDArray[np.int64]:
    """Return the examples of one task in an epoch: where the epoch before ended, a pass over all goes on."""
    first, behind = epoch * draw.quota, (epoch + 1) * draw.quota
    passes = range(first // draw.size, -(-behind // draw.size))
    # The 1 behind the pass keeps these seeds apart from those of epochs.
    orders = [np.random.default_rng([seed, number, one, 1]).permutation(draw.size) for one in passes]
    return np.concatenate(orders)[first - passes.start * draw.size :][: draw.quota]


def share(features: Sequence[Features], processes: int, rank: int) -> list[Features]:
    """Return the part of a step's features that one of several processes computes; tokens are spread evenly.

    Every process makes the same cut. A part may be empty where there are fewer features than processes.
    """
    parts: list[list[Features]] = [[] for _ in range(processes)]
    loads = [0] * processes
    for one in sorted(features, key=len, reverse=True):
        lightest = loads.index(min(loads))
        parts[lightest].append(one)
        loads[lightest] += len(one)
    return parts[rank]


def piece_seed(seed: int, step: int, rank: int, piece: int) -> int:
    """Return the seed of what is random in one piece of a step, a function of all four numbers."""
    return int(np.random.SeedSequence((seed, step, rank, piece)).generate_state(1, np.uint64)[0] >> 1)
