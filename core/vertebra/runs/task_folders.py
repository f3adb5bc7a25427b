"""Where a run of several tasks keeps what it says of each: a folder a task, which reads like that of a run of its own.

RUN/tasks/NAME/     config.yaml, run.json, data.json, baselines.json, evaluations.jsonl, metrics.json, intervals.json,
                    predictions.jsonl, figures.json, report.html: as in a run of one task; its model is that of RUN
RUN/                what belongs to all of them, and their scores together, under names like `ner.entity_f1`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.config.document import to_document
from vertebra.config.schema import RunConfig
from vertebra.data.keys import hashed
from vertebra.engine.counting import ParameterCounts
from vertebra.errors import RunError
from vertebra.host.manager import Host
from vertebra.names import by_task
from vertebra.report.html import write_report
from vertebra.runs.folder import RunFolder

if TYPE_CHECKING:
    from vertebra.runs.prepare import Prepared

SHARED = ("key", "backbone", "adapter", "plugins", "created", "language_model")
"""What `run.json` says of a task as of its run, apart from the numbers of parameters, which are its own."""


def make_places(run: RunFolder, parts: Sequence[Prepared]) -> dict[str, RunFolder]:
    """Return by name where each task has its files: in the run's own folder where it is the only one."""
    if len(parts) == 1:
        return {parts[0].task.name: run}
    places = {part.task.name: run.of_task(part.task.name) for part in parts}
    for place in places.values():
        try:
            place.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"Cannot make the folder '{place.path}': {error.strerror or error}.") from error
    return places


def write_data(place: RunFolder, part: Prepared) -> dict[str, Any]:
    """Write what a task's data are, and return it."""
    policy = part.choice.data.too_long
    document = {
        "splits": {
            split: {
                "rows": len(part.splits.rows[split]),
                "sequences": len(encoded.features),
                "tokens": sum(map(len, encoded.features)),
                "too_long": encoded.too_long,
            }
            for split, encoded in part.encoded.items()
        },
        "too_long": part.task.too_long if policy == "auto" else policy,
        "fingerprint": part.splits.fingerprint,
        "notes": part.notes,
    }
    place.write_json("data.json", document)
    return document


def write_data_together(run: RunFolder, data: Mapping[str, Mapping[str, Any]]) -> None:
    """Write what the data of several tasks are altogether."""
    splits: dict[str, dict[str, int]] = {}
    for document in data.values():
        for split, counts in document["splits"].items():
            found = splits.setdefault(split, {})
            for name, count in counts.items():
                found[name] = found.get(name, 0) + count
    run.write_json(
        "data.json",
        {
            "splits": splits,
            "too_long": "auto",
            "fingerprint": hashed([document["fingerprint"] for document in data.values()]),
            "notes": [f"{task}: {note}" for task, document in data.items() for note in document["notes"]],
        },
    )


def write_together(run: RunFolder, places: Mapping[str, RunFolder], scores: Mapping[str, Mapping[str, float]]) -> None:
    """Write the scores of several tasks, as `scores` has them by split, and their intervals, into the folder of the run."""
    found = {task: place.read_json("intervals.json") for task, place in places.items()}
    run.write_json("metrics.json", scores)
    run.write_json(
        "intervals.json",
        {split: by_task({task: one[split] for task, one in found.items() if split in one}) for split in scores},
    )


def finish(
    run: RunFolder,
    places: Mapping[str, RunFolder],
    config: RunConfig,
    notes: Mapping[str, Sequence[str]],
    counts: Mapping[str, ParameterCounts],
    host: Host,
    ending: Mapping[str, Any],
) -> None:
    """Make the folder of each of several tasks read like that of a run that has finished."""
    about = {name: value for name, value in run.read_state().items() if name in SHARED}
    for choice in config.tasks:
        place = places[choice.name]
        place.write_config(to_document(replace(config, tasks=(choice,))))
        place.write_json("environment.json", run.read_json("environment.json"))
        together = [one.name for one in config.tasks]
        own = counts[choice.name]
        about["adapter"] = {**about["adapter"], **asdict(own), "share": own.share, "adapters": 1}
        place.update_state(**about, tasks=[choice.name], together=together, notes=list(notes[choice.name]))
        write_report(place, host, ending)
        place.update_state(**ending)


def folder_of_task(folder: Path | str, task: str | None) -> Path:
    """Return where a task's part of a run is; `RunError` where the run has it not, or several and none is named."""
    path = Path(folder).expanduser()
    if not path.is_dir():  # `RunFolder.open` says it
        return path
    names = RunFolder(path).read_state().get("tasks")
    known = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    listed = ", ".join(known) or "none"
    if task is None:
        if len(known) > 1:
            raise RunError(
                f"The run in '{path}' has the tasks {listed}: name one of them, or give its folder, such as "
                f"'{RunFolder(path).of_task(known[0]).path}'."
            )
        return path
    if task not in known:
        raise RunError(f"The run in '{path}' has no task '{task}'; it has {listed}.")
    return path if len(known) == 1 else RunFolder(path).of_task(task).path
