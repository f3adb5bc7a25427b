"""A comparison from its options to its report: prepare the work, let the sides take turns, sum up."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from operator import ne
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vertebra_speed.measure import Turn, take_turns
from vertebra_speed.options import Options
from vertebra_speed.worker import Worker, run_once

Call = tuple[str, Mapping[str, Any]]
"""A method and its arguments."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison: what makes it in its process, and in which precision it computes."""

    name: str
    target: str
    arguments: dict[str, Any]
    precision: str
    ours: bool = False


@dataclass(frozen=True)
class Measured:
    """What one side did."""

    side: Side
    turns: list[Turn]
    memory: dict[str, int]
    outcome: dict[str, Any]
    """What its last call returned, where one was asked for: what the sides computed, to be compared."""


def unlike(measured: Sequence[Measured], key: str, what: str) -> dict[str, dict[str, str]]:
    """Say of each side how much of its outcome, a list, is not that of the first side that computes in fp32."""
    reference = next((one for one in measured if one.side.precision == "fp32"), measured[0])
    expected = reference.outcome[key]
    return {
        one.side.name: {
            f"{what} unlike those of {reference.side.name}": f"{sum(map(ne, one.outcome[key], expected)):,} "
            f"of {len(expected):,}"
        }
        for one in measured
        if one is not reference
    }


class Bench:
    """Where a comparison runs: a folder with the work, and a bar that shows how far it is."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._stack = ExitStack()

    def __enter__(self) -> Bench:
        self.folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="vertebra-speed-"))
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = self._stack.enter_context(Progress(*columns, console=console, disable=not console.is_terminal))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prepare(self) -> dict[str, Any]:
        """Write the work into the folder, and return its description."""
        shape = self.options.shape
        return self.once(
            "preparing the work",
            "vertebra_speed.workload:prepare",
            folder=self.folder,
            layers=shape.layers,
            width=shape.width,
            family=self.options.family,
            data=asdict(self.options.data),
            seed=self.options.seed,
        )

    def ceiling(self) -> dict[str, Any]:
        """Return the rate of a large matrix product in each precision, in operations a second."""
        target = "vertebra_speed.ceiling:measure_ceiling"
        return self.once("measuring the ceiling", target, device=self.options.device, threads=self.options.threads)

    def once(self, title: str, target: str, **arguments: Any) -> dict[str, Any]:
        """Run a function in a process of its own."""
        task = self._bar.add_task(title, total=1)
        found = run_once(target, arguments, self.options.threads)
        self._bar.advance(task)
        return found

    def peak(self, side: Side, method: str, **arguments: Any) -> dict[str, Any]:
        """Return the peak memory of a fresh process in which a side does something once."""
        task = self._bar.add_task(f"memory of {side.name}", total=1)
        with Worker(side.target, side.arguments, self.options.threads) as worker:
            worker.call(method, **arguments)
            found = worker.call("memory")
        self._bar.advance(task)
        return found

    def measure(
        self, sides: Sequence[Side], method: str, arguments: Mapping[str, Any], outcome: Call | None = None
    ) -> list[Measured]:
        """Let the sides take turns in `method`, each in a process of its own; a turn's number is its seed.

        `outcome` is called on each side in the end.
        """
        task = self._bar.add_task("measuring", total=len(sides) * self.options.repeats)
        with ExitStack() as stack:
            workers = {
                side.name: stack.enter_context(Worker(side.target, side.arguments, self.options.threads))
                for side in sides
            }
            for worker in workers.values():
                assert worker.made is not None  # all are ready before the first turn
            turns = take_turns(
                workers,
                self.options.repeats,
                lambda worker, number: worker.call(method, seed=number, **arguments),
                lambda name: self._bar.update(task, advance=1, description=f"measuring {name}"),
            )
            memory = {name: worker.call("memory") for name, worker in workers.items()}
            found = {name: worker.call(outcome[0], **outcome[1]) if outcome else {} for name, worker in workers.items()}
        return [Measured(side, turns[side.name], memory[side.name], found[side.name]) for side in sides]
