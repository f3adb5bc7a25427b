"""The scores of a run beside its baselines: by split, and for several tasks by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vertebra.errors import PluginError
from vertebra.names import by_task
from vertebra.report.read import read_baselines, read_json
from vertebra.report.scale import Scale
from vertebra.runs.folder import RunFolder

if TYPE_CHECKING:
    from vertebra.host.manager import Host

SPLITS = ("test", "valid", "train")


@dataclass(frozen=True)
class Scored:
    """What predicts, with its score and its interval by metric: a baseline, or the run's model."""

    name: str
    summary: str
    scores: Mapping[str, float]
    intervals: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class ScoreGroup:
    """The scores on one split: those of the baselines, and below them the model's."""

    split: str
    metrics: list[str]
    baselines: list[Scored]
    model: Scored


def score_groups(
    metrics: Mapping[str, Mapping[str, float]],
    intervals: Mapping[str, Mapping[str, Sequence[float]]],
    baselines: Mapping[str, Mapping[str, Any]],
    model: str,
) -> list[ScoreGroup]:
    """Turn the files by split into groups, test first; a split without scores of the model has none."""
    return [
        ScoreGroup(
            split,
            list(metrics[split]),
            [
                Scored(name, one["summary"], one["scores"][split], one["intervals"].get(split, {}))
                for name, one in baselines.items()
                if split in one["scores"]
            ],
            Scored(model, "", metrics[split], intervals.get(split, {})),
        )
        for split in SPLITS
        if metrics.get(split)
    ]


def model_name(state: Mapping[str, Any]) -> str:
    """Return how the table of scores calls the run's model: by its backbone, where that is known."""
    return str(state.get("backbone", {}).get("name") or "model")


def verdict(group: ScoreGroup, higher: bool, scale: Scale) -> str:
    """Say how the model's first score stands to the best baseline's; empty without baselines."""
    metric, best = group.metrics[0], best_baseline(group, higher)
    if best is None:
        return ""
    ahead = group.model.scores[metric] - best.scores[metric]
    distance = scale.score(metric, abs(ahead))
    if distance == scale.score(metric, 0):
        return f"as the best baseline, {best.name}"
    return f"{distance} {'above' if ahead > 0 else 'below'} the best baseline, {best.name}"


def best_baseline(group: ScoreGroup, higher: bool) -> Scored | None:
    """Return the baseline with the best first score; None without baselines."""
    metric = group.metrics[0]
    known = [one for one in group.baselines if metric in one.scores]
    return (max if higher else min)(known, key=lambda one: one.scores[metric]) if known else None


def higher_is_better(host: Host, metric: str) -> bool:
    """Whether a higher score is better; also for a metric that is not installed here."""
    try:
        return bool(host.get("metric", metric).load().higher_is_better)
    except PluginError:
        return True


@dataclass(frozen=True)
class TaskScores:
    """What a run of several tasks scores on one of them."""

    name: str
    metric: str
    """The task's first metric."""
    groups: Mapping[str, ScoreGroup]
    """By split, test first."""
    best: str
    """The baseline with the best first score on the first split; empty without baselines."""

    def baseline(self, split: str) -> Scored | None:
        """Return the best baseline's scores on a split; None where it has none."""
        found = self.groups[split].baselines if split in self.groups else []
        return next((one for one in found if one.name == self.best), None)


def scores_of_tasks(run: RunFolder, tasks: Sequence[str], model: str, host: Host) -> list[TaskScores]:
    """Return the scores of several tasks of one run; one that has none in its folder is left out."""
    found = []
    for task in tasks:
        place = RunFolder(run.path / "tasks" / task)
        metrics, intervals = read_json(place, "metrics.json"), read_json(place, "intervals.json")
        groups = score_groups(metrics, intervals, read_baselines(place), model)
        if groups:
            metric = groups[0].metrics[0]
            best = best_baseline(groups[0], higher_is_better(host, metric))
            by_split = {one.split: one for one in groups}
            found.append(TaskScores(task, metric, by_split, "" if best is None else best.name))
    return found


def best_baselines(tasks: Sequence[TaskScores]) -> dict[str, dict[str, float]]:
    """Return by split what each task's best baseline scores, under names such as `ner.entity_f1`."""
    found = {
        split: {task.name: best.scores for task in tasks if (best := task.baseline(split)) is not None}
        for split in SPLITS
    }
    return {split: by_task(scores) for split, scores in found.items() if scores}
