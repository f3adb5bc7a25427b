"""The jobs of a sweep: their folders, and how they ended. No torch is needed to look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from vertebra.config.schema import RunConfig
from vertebra.errors import RunError
from vertebra.host.manager import Host
from vertebra.runs.folder import RunFolder
from vertebra.runs.key import active_plugins, job_name

SPLITS = ("valid", "test")


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    config: RunConfig
    """What it runs."""
    axes: Mapping[str, Any] = field(default_factory=dict)
    """What tells it from the sweep's other jobs, in the user's terms, as `{"seed": 1, "backbone": "gpt2"}`."""

    @property
    def title(self) -> str:
        """What it is called on the screen."""
        return " ".join(f"{name}={value}" for name, value in self.axes.items())


@dataclass(frozen=True)
class JobResult:
    """How a job stands: what its folder says, and what went wrong in this call."""

    job: Job
    """What was asked for."""
    folder: Path
    """The folder of its run."""
    status: str
    """`finished`, `failed`, `stopped` (it can go on), `pruned` (a search gave it up) or `waiting` (never begun)."""
    reason: str | None = None
    """Why a job that has not finished has not."""
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The scores by split, as in `metrics.json`; none where the job has not finished."""
    seconds: float | None = None
    """How long it took; None where it has not finished."""
    data: str | None = None
    """The fingerprint of the rows that it was trained and evaluated on."""
    reused: bool = False
    """Whether it had finished before this call."""

    @property
    def metric(self) -> str | None:
        """The primary metric: what picks the best checkpoint, or the task's first one where the loss does that."""
        names = [name for split in SPLITS for name in self.metrics.get(split, {})]
        chosen = self.job.config.trainer.metric
        return chosen if chosen in names else next(iter(names), None)

    def score(self, split: str) -> float | None:
        """Return the primary metric of a split."""
        return self.metrics.get(split, {}).get(self.metric or "")


def folders_of(jobs: Sequence[Job], folder: Path, host: Host) -> list[RunFolder]:
    """Return the run folder of each job; jobs that would give the same numbers have the same one."""
    plugins = active_plugins(host)
    return [RunFolder(folder / job_name(job.config, plugins)) for job in jobs]


def is_finished(run: RunFolder) -> bool:
    """Whether a job is done; `RunError` where its folder is of another version or damaged. Nothing is touched."""
    return (run.path / "run.json").exists() and run.read_state().get("status") == "finished"


def began(run: RunFolder) -> float:
    """Return when a run began, in seconds since 1970."""
    return datetime.fromisoformat(run.read_state()["created"]).timestamp()


def last_written(place: Path, aside: Path) -> float:
    """Return when a file, or the newest one in a folder and not in the folder `aside`, was written; 0 where nothing is."""
    newest = 0.0
    for one in (place, *(place.rglob("*") if place.is_dir() else ())):
        try:
            if one.is_file() and aside not in one.parents and not one.name.startswith("."):
                newest = max(newest, one.stat().st_mtime)
        except OSError:  # it is gone, or nobody may look at it
            continue
    return newest


def read_result(job: Job, run: RunFolder, error: str | None = None) -> JobResult:
    """Return how a job stands; `error` is what its folder may not have been able to take."""
    if not (run.path / "run.json").exists():
        return JobResult(job, run.path, "failed" if error else "waiting", error)
    try:
        state = run.read_state()
        status = str(state.get("status"))
        done = status == "finished"
        metrics = run.read_json("metrics.json") if done else {}
        data = run.read_json("data.json")["fingerprint"] if done else None
    except (RunError, LookupError, TypeError) as broken:
        return JobResult(job, run.path, "failed", error or str(broken))
    if error and not done:
        return JobResult(job, run.path, "stopped" if status == "stopped" else "failed", error)
    if status == "running":  # nobody works in the folder now: its process was killed
        return JobResult(job, run.path, "stopped", "It was killed.")
    return JobResult(job, run.path, status, state.get("reason"), metrics, state.get("seconds"), data)
