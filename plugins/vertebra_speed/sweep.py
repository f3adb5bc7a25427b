"""`vertebra speed sweep`: many runs in one process, beside a process for each; and many heads, beside one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import median

from vertebra.errors import RunError
from vertebra_speed.measure import Spread
from vertebra_speed.options import Options
from vertebra_speed.report import Report
from vertebra_speed.worker import run_once

TRAIN = [sys.executable, "-m", "vertebra", "train"]
SHARED = ["task=ner", "backbone=nano", "gpu=cpu", "gpu.threads=1", "trainer.trackers=[]"]


@dataclass(frozen=True)
class Seconds:
    """What some processes took, one after the other."""

    wall: float
    cpu: float
    """Of the processes and of those that they started: what other work on the machine changes least."""


@dataclass(frozen=True)
class Programs:
    """The four things that are timed, each from a cache without anything in it."""

    options: Options

    @property
    def heads(self) -> int:
        """How many settings of a head there are."""
        return max(self.options.heads)

    @property
    def frozen(self) -> list[str]:
        """The settings of a run on a frozen backbone."""
        return [*SHARED, "backbone.freeze=true", *self._limit]

    @property
    def short(self) -> list[str]:
        """The settings of a short run."""
        return [*SHARED, f"trainer.max_steps={self.options.steps}", *self._limit]

    @property
    def _limit(self) -> list[str]:
        return [f"data.limit={self.options.rows}"]

    @property
    def names(self) -> list[str]:
        """What each is called in the report."""
        jobs, steps = self.options.jobs, self.options.steps
        return [
            "one run on a frozen backbone",
            f"a sweep of {self.heads} settings of its head",
            f"{jobs} runs of {steps} steps, a process each",
            f"a sweep of these {jobs} runs",
        ]

    def turn(self, folder: Path) -> list[Seconds]:
        """Run all four."""
        rates = ",".join(f"{1e-3 * (number + 1):.6g}" for number in range(self.heads))
        seeds = range(1, self.options.jobs + 1)
        swept = ",".join(map(str, seeds))
        return [
            timed([[*self.frozen, place(folder / "one")]], folder),
            timed([[*self.frozen, "-m", f"trainer.learning_rate={rates}", sweep(folder / "heads")]], folder),
            timed([[*self.short, f"seed={seed}", place(folder / "alone" / str(seed))] for seed in seeds], folder),
            timed([[*self.short, "-m", f"seed={swept}", sweep(folder / "together")]], folder),
        ]


def place(folder: Path) -> str:
    """Return the setting for the folder of a run."""
    return f"hydra.run.dir={folder}"


def sweep(folder: Path) -> str:
    """Return the setting for the folder of a sweep."""
    return f"hydra.sweep.dir={folder}"


def timed(commands: Sequence[Sequence[str]], folder: Path) -> Seconds:
    """Return what `vertebra train` takes with each of the arguments, one after the other, from an empty cache."""
    wall, before = time.perf_counter(), os.times()
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        for arguments in commands:
            done = subprocess.run(
                [*TRAIN, *arguments], capture_output=True, text=True, env={**os.environ, "VERTEBRA_CACHE": cache}
            )
            if done.returncode:
                raise RunError(f"speed: `vertebra train` failed: {done.stderr.strip().splitlines()[-1]}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Seconds(time.perf_counter() - wall, cpu)


def unlike(folder: Path) -> str:
    """Return how many jobs of the sweep have other weights or scores than their separate runs."""
    jobs = json.loads((folder / "together" / "sweep.json").read_text(encoding="utf-8"))["jobs"]
    pairs = [(folder / "together" / job["folder"], folder / "alone" / str(job["axes"]["seed"])) for job in jobs]
    return f"{sum(outcome(one) != outcome(other) for one, other in pairs)} of {len(pairs)}"


def outcome(run: Path) -> tuple[object, str, str]:
    """Return the hashes of a run's weights, its scores, and its predictions."""
    state = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return state["weights"], (run / "metrics.json").read_text(), (run / "predictions.jsonl").read_text()


def run(options: Options) -> Report:
    """Measure, and return what was found."""
    environment = run_once("vertebra.runs.environment:describe_environment", {}, threads=1)
    programs = Programs(options)
    turns: list[list[Seconds]] = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory(prefix="vertebra-speed-") as scratch:
            turns.append(programs.turn(Path(scratch)))
            differing = unlike(Path(scratch))
    by_name = dict(zip(programs.names, zip(*turns, strict=True), strict=True))
    _, heads, _, together = programs.names
    return {
        "command": "sweep",
        "date": date.today().isoformat(),
        "environment": environment,
        "options": {"repeats": options.repeats, "heads": programs.heads, "jobs": options.jobs, "steps": options.steps},
        "work": {},
        "seconds": {
            f"{name}, {kind}": asdict(Spread.of([getattr(seconds, kind) for seconds in found]))
            for name, found in by_name.items()
            for kind in ("wall", "cpu")
        },
        "notes": [
            f"{heads[0].upper()}{heads[1:]} costs {times(turns, 1, 0)} one run.",
            f"{together[0].upper()}{together[1:]} costs {times(turns, 3, 2)} as many processes.",
            f"Jobs of the sweep with other weights, scores or predictions than their own processes: {differing}.",
            f"Whole processes with one thread and an empty cache, {options.repeats} turns; cpu: seconds of the processor.",
        ],
    }


def times(turns: Sequence[Sequence[Seconds]], what: int, base: int) -> str:
    """Write one program's seconds as a multiple of another's, the median of all turns."""
    wall = median(turn[what].wall / turn[base].wall for turn in turns)
    cpu = median(turn[what].cpu / turn[base].cpu for turn in turns)
    return f"{wall:.2f} × (processor: {cpu:.2f} ×)"
