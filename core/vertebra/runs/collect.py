"""Find finished runs below folders, and name what tells them apart. No torch is needed to look at them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vertebra.config.document import OF_CHOICE
from vertebra.config.schema import TaskChoice
from vertebra.errors import RunError
from vertebra.report.read import read_config, read_json
from vertebra.runs.folder import RunFolder
from vertebra.runs.key import WITHOUT_EFFECT

SEED = "seed"
NOT_THE_SYSTEM = (SEED, "task", "data", *(".".join(setting) for setting in WITHOUT_EFFECT))
"""What runs may differ in that does not make another system."""
OF_THE_MACHINE = ("gpu.threads", "gpu.token_budget", "gpu.processes")
"""What is settled by the machine that a run is made on; it names systems only where a sweep has it as an axis."""


@dataclass(frozen=True)
class Entry:
    """One finished run of one system on one task, or the predictions of another tool."""

    task: str
    """What the task is called on the board; entries of one name are scored on the same rows."""
    system: str
    run: RunFolder | None
    file: Path | None = None
    """In place of a run: a file of predictions."""
    axes: Mapping[str, Any] = field(default_factory=dict)
    """Of a sweep, the settings that tell its runs apart."""


def finished_runs(places: Iterable[Path]) -> list[RunFolder]:
    """Return the finished runs in these folders and below, each once, in the order of their paths.

    In place of a run of several tasks come those of its tasks. `RunError` where a folder is missing, or has none, or a run is
    of another version.
    """
    found: dict[Path, RunFolder] = {}
    for place in places:
        if not place.is_dir():
            raise RunError(f"There is no folder '{place}'.")
        below = [RunFolder(file.parent) for file in sorted(place.rglob("run.json"))]
        finished = [run for run in below if is_of_one_task(run.read_state())]
        if not finished:
            unfinished = f"; {len(below)} have not finished" if below else ""
            raise RunError(f"There is no finished run in '{place}' or below it{unfinished}.")
        found |= {run.path.resolve(): run for run in finished}
    return list(found.values())


def without_repeats(runs: Iterable[RunFolder]) -> tuple[list[RunFolder], list[str]]:
    """Return each run once, the first of those with one key, and a note for each other: the same numbers are no second seed."""
    kept: dict[object, RunFolder] = {}
    notes = []
    for run in runs:
        key = run.read_state().get("key")
        # The tasks of one run have its key.
        first = kept.setdefault((key, task_of(run)[0]) if key else run.path, run)
        if first is not run:
            notes.append(f"'{run.path}' is left out: it is the run in '{first.path}', made once more")
    return list(kept.values()), notes


def is_of_one_task(state: Mapping[str, Any]) -> bool:
    """Whether a run, by its `run.json`, has finished and is not one of several tasks, which have folders of their own."""
    tasks = state.get("tasks")
    return state.get("status") == "finished" and not (isinstance(tasks, list) and len(tasks) > 1)


def entries_of(runs: Sequence[RunFolder]) -> list[Entry]:
    """Return runs as entries of a leaderboard: tasks by name and data, systems by the settings in which runs differ.

    Where one sweep made all runs of a task, these are its axes, in the user's terms. What is the same in one sweep may not be
    so in another: of several, settings tell the runs apart.
    """
    tasks = [task_of(run) for run in runs]
    several = {name for name, _ in tasks if len({data for other, data in tasks if other == name}) > 1}
    swept = axes_of(runs)
    settings = [settings_of(run) for run in runs]
    entries = []
    for (name, data), axes, own, run in zip(tasks, swept, settings, runs, strict=True):
        beside = [number for number, (theirs, _) in enumerate(tasks) if theirs == name]
        alike = axes is not None and all(
            runs[one].path.parent == run.path.parent and (swept[one] or {}).keys() == axes.keys() for one in beside
        )
        # How other data are read says nothing of a system: they are another column of the board.
        reading = {key: value for key, value in own.items() if key.startswith("data.")}
        others = [settings[one] if tasks[one] == (name, data) else {**settings[one], **reading} for one in beside]
        chosen = axes if axes is not None and alike else differing(own, others)
        about = {key: value for key, value in chosen.items() if key not in NOT_THE_SYSTEM}
        title = f"{name} ({data})" if name in several else name
        entries.append(Entry(title, system_name(about, own), run, axes={**about, SEED: own.get(SEED)} if about else {}))
    return entries


def settings_of(run: RunFolder) -> dict[str, Any]:
    """Return a run's settings; one of several tasks on one backbone is another system than its task alone.

    Those of the other tasks stand in it by their names, as `sentiment.weight`: this one learnt beside them.
    """
    config = run.read_config()
    settings = flattened(config)
    if settings.get("trainer.adapters") != "each":
        settings.pop("rate", None)  # has no effect
    together = read_json(run, "run.json").get("together")
    if not isinstance(together, list):
        return settings
    own = config["tasks"][0]["name"]
    choices = read_config(RunFolder(run.path.absolute().parent.parent)).get("tasks") or []
    if [one["name"] for one in choices] != together:  # the folder was taken out of that of its run
        choices = []
    beside = {
        f"{one['name']}.{key}": value
        for one in choices
        if one["name"] != own
        for key, value in {"data": data_name(one), **of_task(one)}.items()
    }
    return {**settings, "together": "+".join(map(str, together)), **beside}


def task_of(run: RunFolder) -> tuple[str, str]:
    """Return a run's task, and what its data are called: the end of their path, or the reader that made them."""
    (choice, *_) = run.read_config()["tasks"]
    return choice["name"], data_name(choice)


def data_name(choice: Mapping[str, Any]) -> str:
    """Return what the data of a task are called."""
    data = choice.get("data") or {}
    return Path(data["path"]).name if data.get("path") else str(data.get("format"))


def axes_of(runs: Sequence[RunFolder]) -> list[dict[str, Any] | None]:
    """Return what the sweep that each run is part of says of it; None where no sweep does."""
    sweeps: dict[Path, dict[str, dict[str, Any]]] = {}
    for place in dict.fromkeys(run.path.parent for run in runs):
        jobs = read_json(RunFolder(place), "sweep.json").get("jobs", [])
        sweeps[place] = {job["folder"]: dict(job["axes"]) for job in reversed(jobs)}  # the first one of a folder counts
    return [sweeps[run.path.parent].get(run.path.name) for run in runs]


def differing(own: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings of a run that are not the same in all others, apart from those of its machine.

    Those of a task beside it tell it from other runs beside that task; from a run without it, `together` does.
    """
    found = {}
    for key in (key for key in own if key not in OF_THE_MACHINE):
        owner = key.partition(".")[0]
        compared = [one for one in others if owner in tasks_of(one)] if owner in tasks_of(own) else others
        if any(other.get(key) != own[key] for other in compared):
            found[key] = own[key]
    return found


def tasks_of(settings: Mapping[str, Any]) -> Sequence[str]:
    """Return the tasks of a run of several, of which these settings are one's."""
    return str(settings.get("together", "")).split("+")


def flattened(document: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return a run's configuration as `trainer.learning_rate: 0.001`, with what it says of its first task."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        if key == "tasks":
            found |= of_task(value[0])
        elif isinstance(value, Mapping):
            found |= flattened(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found


def of_task(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run says of a task as `task.dropout: 0.1` and `data.limit: 100`, without where its data are."""
    data = {key: value for key, value in (choice.get("data") or {}).items() if key not in ("path", "cache")}
    others = {key: choice.get(key, getattr(TaskChoice, key)) for key in OF_CHOICE}
    return flattened({"task": choice.get("config") or {}, "data": data, **others})


def system_name(about: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return what a system is called: the settings that make it, or its backbone where nothing differs."""
    tasks = tasks_of(settings)
    whole = {key: key.removesuffix(".name") for key in about}
    last = {key: name.rpartition(".")[2] for key, name in whole.items()}
    known = Counter(last.values())
    plain = {key for key in about if known[last[key]] == 1 and key.partition(".")[0] not in tasks}
    words = [f"{last[key] if key in plain else whole[key]}={value}" for key, value in about.items()]
    return " ".join(words) or str(settings.get("backbone.name"))
