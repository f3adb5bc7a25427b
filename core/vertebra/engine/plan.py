"""The plan of training: which examples make each step, a pure function of (seed, epoch, step).

Nothing of it is state, so a run can be taken up at any step, and any number of processes agree on it without talking.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vertebra.tasks.features import Features


@dataclass(frozen=True)
class Plan:
    """Steps over `n_examples` rows, `batch_size` of them a step, in a new order each epoch."""

    n_examples: int
    batch_size: int
    seed: int

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
        return _order(self.seed, epoch, self.n_examples)

    def examples(self, step: int) -> NDArray[np.int64]:
        """Return the examples of a step, counted from 0 over the whole run."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self.order(epoch)[place * self.batch_size : (place + 1) * self.batch_size]


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, n_examples: int) -> NDArray[np.int64]:
    order = np.random.default_rng([seed, epoch]).permutation(n_examples)
    order.flags.writeable = False  # many steps read it
    return order


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
