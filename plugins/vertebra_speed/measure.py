"""Measuring: sides take turns, and what is reported are medians over the turns. This module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from vertebra_speed.worker import Worker


@dataclass(frozen=True)
class Turn:
    """One turn of one side."""

    wall: float
    """Seconds by the clock."""
    cpu: float
    """Seconds of the processor, over all threads of the process."""
    tokens: int
    """Real ones: what is padding is no work that was asked for."""
    steps: int

    def seconds(self, threads: int) -> float:
        """Return the seconds that count: of the processor where one thread works, because another program cannot
        lengthen them by taking its place; else by the clock.
        """
        return self.cpu if threads == 1 else self.wall


@dataclass(frozen=True)
class Spread:
    """A median with the least and the greatest value."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Sum up the values."""
        return cls(median(values), min(values), max(values))


def take_turns(
    workers: Mapping[str, Worker],
    rounds: int,
    run: Callable[[Worker, int], dict[str, Any]],
    done: Callable[[str], None],
) -> dict[str, list[Turn]]:
    """Let each side have a turn in each round, and return the turns of each; `done` is told after each turn.

    Every other round goes the other way about, so that no side is always the one behind a certain other.
    """
    turns: dict[str, list[Turn]] = {name: [] for name in workers}
    for number in range(rounds):
        names = list(workers) if number % 2 == 0 else list(workers)[::-1]
        for name in names:
            turns[name].append(Turn(**run(workers[name], number)))
            done(name)
    return turns


def rates(turns: list[Turn], threads: int) -> list[float]:
    """Return the real tokens per second of each turn."""
    return [turn.tokens / turn.seconds(threads) for turn in turns]


def ratio(ours: list[Turn], theirs: list[Turn], threads: int) -> Spread:
    """Return how many times as fast `ours` is, round by round."""
    pairs = zip(rates(ours, threads), rates(theirs, threads), strict=True)
    return Spread.of([our / their for our, their in pairs])
