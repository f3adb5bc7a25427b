"""The table of a sweep: on the screen, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vertebra.config.defaults import plain
from vertebra.report.numbers import duration
from vertebra.report.scale import Scale
from vertebra.report.screen import print_whole
from vertebra.runs.folder import RunFolder
from vertebra.runs.jobs import SPLITS, JobResult

FORMAT = 1
"""The version of `sweep.json`."""
SEED = "seed"


@dataclass(frozen=True)
class Mean:
    """Jobs that differ by their seed alone."""

    axes: Mapping[str, Any]
    """What they have in common."""
    metric: str | None
    n: int
    """How many of them have finished."""
    of: int
    """How many there are."""
    means: Mapping[str, float]
    """The mean of the primary metric by split, over those that have finished."""
    deviations: Mapping[str, float]
    """Its standard deviation, where at least two have finished."""


def means_over_seeds(results: Sequence[JobResult]) -> list[Mean]:
    """Return the means over seeds, in the order in which the jobs came; none where the seed is no axis."""
    groups: dict[str, list[JobResult]] = {}
    for one in results:
        if SEED in one.job.axes:
            groups.setdefault(str(_without_seed(one)), []).append(one)
    return [_mean(group) for group in groups.values()]


def _mean(group: Sequence[JobResult]) -> Mean:
    metric = next((one.metric for one in group if one.metric), None)
    scores = {split: [score for one in group if (score := one.score(split)) is not None] for split in SPLITS}
    return Mean(
        _without_seed(group[0]),
        metric,
        sum(one.status == "finished" for one in group),
        len(group),
        {split: fmean(some) for split, some in scores.items() if some},
        {split: stdev(some) for split, some in scores.items() if len(some) > 1},
    )


def _without_seed(one: JobResult) -> dict[str, Any]:
    return {name: value for name, value in one.job.axes.items() if name != SEED}


def notes_of(results: Sequence[JobResult]) -> list[str]:
    """Return what a reader of the table must know: data that changed between jobs, and jobs that are the same."""
    seen: dict[str, set[str]] = {}
    for one in results:
        if one.data is not None:
            seen.setdefault(str([[task.name, plain(task.data)] for task in one.job.config.tasks]), set()).add(one.data)
    changed = sum(len(some) > 1 for some in seen.values())
    same = len(results) - len({one.folder for one in results})
    return [
        *(["some jobs saw other rows than others: the data changed in between. Delete the folders of the older ones, "
           "or sweep in a new folder"] if changed else []),
        *([f"{same} of {len(results)} jobs would give the same numbers as others, and are done once"] if same else []),
    ]  # fmt: skip


# --- files


def write_sweep(folder: Path, results: Sequence[JobResult]) -> None:
    """Write `sweep.json` and `sweep.csv`; `RunError` where the disk does not take them."""
    place = RunFolder(folder)
    place.write_json("sweep.json", document_of(results))
    place.write_text("sweep.csv", as_csv(results))


def document_of(results: Sequence[JobResult]) -> dict[str, Any]:
    """Return what `sweep.json` holds: the axes, a line for each job, the means over seeds, and the notes."""
    values: dict[str, list[Any]] = {}
    for one in results:
        for name, value in one.job.axes.items():
            values.setdefault(name, [])
            if value not in values[name]:
                values[name].append(value)
    return {
        "format": FORMAT,
        "axes": values,
        "jobs": [
            {
                "axes": dict(one.job.axes),
                "folder": one.folder.name,
                "status": one.status,
                "reason": one.reason,
                "metric": one.metric,
                "scores": {split: dict(scores) for split, scores in one.metrics.items()},
                "seconds": one.seconds,
            }
            for one in results
        ],
        "means": [
            {
                "axes": dict(one.axes),
                "metric": one.metric,
                "finished": one.n,
                "jobs": one.of,
                "means": dict(one.means),
                "standard_deviations": dict(one.deviations),
            }
            for one in means_over_seeds(results)
        ],
        "notes": notes_of(results),
    }


def as_csv(results: Sequence[JobResult]) -> str:
    """Return a line for each job under a line of names; scores are the primary metric's, as fractions."""
    axes = axes_of(results)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*axes, "status", "metric", *SPLITS, "seconds", "folder", "reason"])
    for one in results:
        scores = [one.score(split) for split in SPLITS]
        values = [one.job.axes.get(name, "") for name in axes]
        writer.writerow([*values, one.status, one.metric, *scores, one.seconds, one.folder.name, one.reason])
    return out.getvalue()


def axes_of(results: Sequence[JobResult]) -> list[str]:
    """Return the names of all axes, in their order."""
    return list(dict.fromkeys(name for one in results for name in one.job.axes))


# --- the screen


def print_sweep(results: Sequence[JobResult], scale: Scale, console: Console | None = None) -> None:
    """Print a line for each job, the means over seeds, the errors of the jobs that failed, and the notes."""
    console = console or Console(highlight=False)
    console.print()
    print_whole(jobs_table(results, scale), console)
    if means := means_over_seeds(results):
        console.print()
        print_whole(means_table(means, scale), console)
    console.print()
    for one in results:
        if one.status != "finished":
            line = Text.assemble((one.status.capitalize(), "bold red"), f": {one.job.title or one.folder.name}")
            console.print(line.append(f": {one.reason}" if one.reason else ""), soft_wrap=True)
    for note in notes_of(results):
        console.print(Text.assemble(("Note: ", "bold yellow"), note), soft_wrap=True)


def jobs_table(results: Sequence[JobResult], scale: Scale) -> Table:
    """Return the table of all jobs."""
    axes = axes_of(results)
    table = _table(axes, "status", "time", "metric")
    for one in results:
        scores = [one.score(split) for split in SPLITS]
        written = ["" if score is None else scale.score(one.metric or "", score) for score in scores]
        seconds = "" if one.seconds is None else duration(one.seconds)
        values = [str(one.job.axes.get(name, "")) for name in axes]
        table.add_row(*map(Text, [*values, one.status, seconds, scale.named(one.metric or ""), *written]))
    return table


def means_table(means: Sequence[Mean], scale: Scale) -> Table:
    """Return the table of the means over seeds."""
    axes = list(dict.fromkeys(name for one in means for name in one.axes))
    table = _table(axes, "mean of", "metric")
    for one in means:
        seeds = f"{one.n} seeds" if one.n == one.of else f"{one.n} of {one.of} seeds"
        written = [_with_deviation(one, split, scale) for split in SPLITS]
        values = [str(one.axes.get(name, "")) for name in axes]
        table.add_row(*map(Text, [*values, seeds, scale.named(one.metric or ""), *written]))
    return table


def _table(axes: Sequence[str], *names: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in (*axes, *names):
        table.add_column(Text(name))
    for split in SPLITS:
        table.add_column(Text(split), justify="right")
    return table


def _with_deviation(one: Mean, split: str, scale: Scale) -> str:
    if split not in one.means or one.metric is None:
        return ""
    written = scale.score(one.metric, one.means[split])
    return f"{written} ± {scale.score(one.metric, one.deviations[split])}" if split in one.deviations else written
