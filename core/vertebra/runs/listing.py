"""Find runs below folders, and what they are, without loading anything: no torch is needed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vertebra.errors import RunError
from vertebra.names import did_you_mean
from vertebra.runs.folder import RunFolder

STATES = ("finished", "failed", "stopped", "pruned", "running", "unreadable")


@dataclass(frozen=True)
class FoundRun:
    """A run folder, as far as it can be read."""

    folder: Path
    state: str
    """One of `STATES`; a run whose process was killed is stopped."""
    reason: str | None = None
    """Why it is not finished, or cannot be read."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Its configuration in the terms of the command line: `task`, `backbone`, `seed`, `trainer.learning_rate` …"""
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """As in `metrics.json`."""
    created: str | None = None
    seconds: float | None = None

    @property
    def metric(self) -> str | None:
        """The primary metric."""
        names = [name for scores in self.scores.values() for name in scores]
        chosen = self.settings.get("trainer.metric")
        return chosen if chosen in names else next(iter(names), None)

    def score(self, split: str, metric: str | None = None) -> float | None:
        """Return a score of a split, by default the primary one."""
        return self.scores.get(split, {}).get(metric or self.metric or "")


def find_runs(folders: Iterable[Path]) -> Iterator[FoundRun]:
    """Yield every run at or below the folders, in the order of their names."""
    for folder in folders:
        if not folder.is_dir():
            raise RunError(f"There is no folder '{folder}'.")
        for place, below, files in os.walk(folder):
            below.sort()
            if "run.json" in files:
                below.clear()  # nothing in a run is another run
                yield read_run(Path(place))


def read_run(folder: Path) -> FoundRun:
    """Return what a run folder says."""
    run = RunFolder(folder)
    try:
        state = run.read_state()
        settings = flattened(run.read_config())
        scores = run.read_json("metrics.json") if state.get("status") == "finished" else {}
        if not all(isinstance(some, dict) for some in scores.values()):
            raise RunError(f"'{folder / 'metrics.json'}' does not hold scores.")
    except (RunError, AttributeError, TypeError, LookupError) as error:
        return FoundRun(folder, "unreadable", str(error))
    status, reason = str(state.get("status")), state.get("reason")
    if status == "running" and not is_locked(folder):
        status, reason = "stopped", "It was killed."
    return FoundRun(folder, status, reason, settings, scores, state.get("created"), state.get("seconds"))


def is_locked(folder: Path) -> bool:
    """Whether a process works in a run folder."""
    if not (folder / ".lock").exists():
        return False
    with suppress(OSError):  # a folder that may only be read: nobody can tell
        try:
            with FileLock(folder / ".lock", blocking=False):
                return False
        except Timeout:
            return True
    return True


def flattened(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's configuration by the names that its settings have on the command line."""
    tasks = document["tasks"]
    groups = {name: values for name, values in document.items() if name != "tasks"}
    for task in tasks:  # what is of one of several tasks has its name before it
        before = f"{task['name']}." if len(tasks) > 1 else ""
        groups |= {f"{before}task": task.get("config") or {}, f"{before}data": task["data"]}
    settings = dict(_leaves(groups, ""))
    backbone = document["backbone"]
    named = {
        "task": "+".join(task["name"] for task in tasks),
        "backbone": Path(backbone["path"]).name if backbone.get("path") else backbone["name"],
        "adapter": document["adapter"]["name"],
        "seed": document["seed"],
    }
    return {**named, **settings}


def _leaves(values: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


# --- filters


def chosen(runs: Sequence[FoundRun], where: Sequence[str], states: Sequence[str]) -> list[FoundRun]:
    """Return the runs in one of the states (any where none is given) whose settings have the values `NAME=VALUE,…`.

    `RunError` for a name that no run has.
    """
    wanted: dict[str, list[str]] = {}
    for text in where:
        name, equals, values = text.partition("=")
        if not equals:
            raise RunError(f"--where {text}: write NAME=VALUE, as in --where task=ner seed=1,2.")
        wanted.setdefault(name, []).extend(values.split(","))
    known = {name for run in runs for name in run.settings}
    for name in wanted:
        if known and name not in known:
            raise RunError(
                f"--where {name}: none of these runs has it.{did_you_mean(name, known)} --json shows all settings."
            )
    return [
        run
        for run in runs
        if (not states or run.state in states)
        and all(
            name in run.settings and any(is_value(run.settings[name], value) for value in values)
            for name, values in wanted.items()
        )
    ]


def is_value(value: Any, text: str) -> bool:
    """Whether a setting has the value that a user wrote: 1e-3 is 0.001, and null is nothing."""
    if isinstance(value, bool) or value is None:
        return text.lower() == {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        with suppress(ValueError):
            return float(text) == value
        return False
    return str(value) == text


def ordered(runs: Sequence[FoundRun], name: str) -> list[FoundRun]:
    """Return the runs by a metric, the highest first, or by a setting, `created` or `seconds`; those without it come last.

    Scores are those of validation where a run has them, for choosing by test scores would spoil them.
    """
    metrics = {metric for run in runs for scores in run.scores.values() for metric in scores}
    settings = {setting for run in runs for setting in run.settings}
    if name not in metrics | settings | {"created", "seconds", "metric"}:
        near = did_you_mean(name, metrics | settings)
        raise RunError(
            f"--sort {name}: none of these runs has it.{near} Metrics: {', '.join(sorted(metrics)) or 'none'}."
        )

    def value(run: FoundRun) -> Any:
        if name in metrics or name == "metric":
            metric = None if name == "metric" else name
            score = run.score("valid", metric)
            score = run.score("test", metric) if score is None else score
            return None if score is None else -score
        return getattr(run, name) if name in ("created", "seconds") else run.settings.get(name)

    def key(run: FoundRun) -> tuple[bool, bool, Any]:
        found = value(run)
        is_text = not isinstance(found, int | float)
        return found is None, is_text, str(found) if is_text else found

    return sorted(runs, key=key)
