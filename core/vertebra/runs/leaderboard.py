"""A leaderboard: systems across tasks, with intervals, paired tests, ranks and costs, made from finished runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from vertebra.config.document import from_document
from vertebra.errors import RunError
from vertebra.host.manager import Host
from vertebra.metrics.bootstrap import Sampled
from vertebra.metrics.metric import Counts, Metric
from vertebra.report.read import COSTS, read_baselines, read_cost, read_json, read_lines
from vertebra.runs.collect import Entry
from vertebra.runs.folder import RunFolder, now
from vertebra.runs.load import restore_task
from vertebra.runs.predictions import read_file, read_run, refuse_other_rows
from vertebra.runs.tasks import load_metrics
from vertebra.statistics.across_tasks import normalised, rank_test, ranks
from vertebra.statistics.paired import holm, is_right_or_wrong, mcnemar_test, permutation_test

FORMAT = 1
"""The version of `leaderboard.json`."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Result:
    """One system on one task."""

    system: str
    scores: dict[str, float]
    """The score of each seed; of a file of predictions, one score under its name."""
    mean: float
    interval: tuple[float, float]
    """95 %, over examples and seeds."""
    cost: dict[str, float]
    """Means over seeds; what was not measured is not there."""
    curve: list[tuple[float, float]]
    """(step, score on validation), the mean over seeds that were evaluated at that step."""


@dataclass(frozen=True)
class BaselineResult:
    """What a task's baseline scores."""

    name: str
    summary: str
    score: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Pair:
    """Two systems on the same rows; `difference` is the first one's score less the second one's."""

    first: str
    second: str
    difference: float
    interval: tuple[float, float]
    p_value: float
    adjusted: float
    """By Holm's correction for the pairs of the task."""
    test: str
    """`seeds and examples`, or where neither has several seeds `permutation` or `McNemar`."""


@dataclass(frozen=True)
class TaskBoard:
    """All systems on one task, the best one first."""

    name: str
    task: str
    metric: str
    higher_is_better: bool
    split: str
    rows: int
    results: list[Result]
    baselines: list[BaselineResult]
    pairs: list[Pair]

    def of(self, system: str) -> Result | None:
        """Return a system's result."""
        return next((one for one in self.results if one.system == system), None)

    def stands_out(self, system: str) -> bool:
        """Whether there are other systems, and none is better on this task by its adjusted p-value."""
        return len(self.results) > 1 and not any(
            pair.adjusted < 0.05 and system == (pair.second if self._better(pair) else pair.first)
            for pair in self.pairs
        )

    def _better(self, pair: Pair) -> bool:
        return (pair.difference > 0) == self.higher_is_better


@dataclass(frozen=True)
class SystemLine:
    """One system across the tasks."""

    name: str
    tasks: int
    """On how many tasks it was scored."""
    average_rank: float | None
    """Over the tasks that all systems have; None where there is none."""
    normalised: float | None
    """The mean over these tasks of its score between the worst (0) and the best (1) of systems and baselines."""
    cost: dict[str, float]
    """Summed over its tasks; speed is a mean, memory and parameters the largest."""


@dataclass(frozen=True)
class SweptRun:
    """One run of a sweep, for the plots of its settings."""

    task: str
    axes: dict[str, Any]
    score: float


@dataclass(frozen=True)
class Leaderboard:
    """Everything that the reports show."""

    title: str
    made: str
    tasks: list[TaskBoard]
    systems: list[SystemLine]
    """The best normalised average first."""
    ranks: dict[str, Any] | None
    """Friedman's p-value, Nemenyi's critical difference, and the groups of systems that do not differ."""
    runs: list[SweptRun]
    notes: list[str]
    format: int = FORMAT

    def document(self) -> dict[str, Any]:
        """Return what `leaderboard.json` holds."""
        return asdict(self)


def make_leaderboard(
    title: str, entries: Sequence[Entry], host: Host, *, notes: Sequence[str] = (), resamples: int = RESAMPLES
) -> Leaderboard:
    """Score all entries; `RunError` or `DataError` where those of one task were not made on the same rows."""
    names = dict.fromkeys(entry.task for entry in entries)
    tasks = [make_board([one for one in entries if one.task == name], host, resamples) for name in names]
    systems, tests = across(tasks)
    labels = labels_of(entries)
    runs = [
        SweptRun(board.name, dict(entry.axes), result.scores[label])
        for board in tasks
        for entry, label in zip(entries, labels, strict=True)
        if entry.task == board.name and entry.axes and (result := board.of(entry.system)) is not None
    ]
    return Leaderboard(title, now(), tasks, systems, tests, runs, list(notes))


def make_board(entries: Sequence[Entry], host: Host, resamples: int = RESAMPLES) -> TaskBoard:
    """Score the systems of one task by its first metric."""
    runs = [entry.run for entry in entries if entry.run is not None]
    if not runs:
        raise RunError(f"Task '{entries[0].task}' has predictions of other tools alone; a run is needed to score them.")
    task = restore_task(from_document(runs[0].read_config(), host), runs[0], host)
    metric = load_metrics(task, host)[0]
    splits = [read_json(run, "metrics.json") for run in runs]
    split = "test" if all("test" in one for one in splits) else "valid"
    known = read_run(runs[0], split)
    counts: dict[str, dict[str, Counts]] = {}
    for entry, label in zip(entries, labels_of(entries), strict=True):
        if entry.run is not None:
            predicted = read_run(entry.run, split)
            refuse_other_rows(known, predicted)
        else:
            assert entry.file is not None
            predicted = read_file(entry.file, known, task, metric, entry.system)
        counts.setdefault(entry.system, {})[label] = predicted.counts(metric)
    others = {entry.system for entry in entries if entry.run is None}  # of other tools, whose seeds nobody knows
    sampled = {
        system: Sampled.of(metric, list(by_seed.values()), resamples=resamples, fixed=system in others)
        for system, by_seed in counts.items()
    }
    results = [
        _result(system, list(counts[system]), one, [entry for entry in entries if entry.system == system], metric)
        for system, one in sampled.items()
    ]
    sign = -1 if metric.higher_is_better else 1
    results.sort(key=lambda one: sign * one.mean)
    return TaskBoard(
        entries[0].task,
        task.name,
        metric.name,
        metric.higher_is_better,
        split,
        len(known.ids),
        results,
        _baselines(runs, metric.name, split),
        _pairs([one.system for one in results], sampled, counts, metric),
    )


def across(tasks: Sequence[TaskBoard]) -> tuple[list[SystemLine], dict[str, Any] | None]:
    """Return the systems over all tasks, and the tests of their ranks over the tasks that every system has."""
    names = list(dict.fromkeys(one.system for board in tasks for one in board.results))
    whole = [board for board in tasks if len(board.results) == len(names)]
    scores_NS = np.array([[_mean(board, name) for name in names] for board in whole]).reshape(len(whole), len(names))
    ranks_NS = ranks(scores_NS, [board.higher_is_better for board in whole]) if whole else scores_NS
    shares = [_shares(board) for board in whole]
    lines = [
        SystemLine(
            name,
            sum(board.of(name) is not None for board in tasks),
            float(ranks_NS[:, number].mean()) if whole else None,
            fmean(one[name] for one in shares) if whole else None,
            _summed([one.cost for board in tasks if (one := board.of(name)) is not None]),
        )
        for number, name in enumerate(names)
    ]
    tests = rank_test(ranks_NS) if whole else None
    described = None
    if tests is not None:
        described = {
            "tasks": len(whole),
            "friedman_p": tests.p_value,
            "critical_difference": tests.critical_difference,
            "alike": [[names[number] for number in group] for group in tests.cliques],
        }
    return sorted(lines, key=lambda one: (-(one.normalised or 0.0), one.average_rank or 0.0)), described


def labels_of(entries: Sequence[Entry]) -> list[str]:
    """Return what the score of each entry is called: its seed, with its folder where two runs of a system share one."""
    labels = [str(entry.run.read_config().get("seed")) if entry.run is not None else "" for entry in entries]
    seeds = labels
    for whole in (False, True):  # the folders of one task in runs of several have the same name
        named = [(entry.task, entry.system, label) for entry, label in zip(entries, labels, strict=True)]
        known = Counter(named)
        labels = [
            f"{seed} ({entry.run.path if whole else entry.run.path.name})"
            if entry.run is not None and known[one] > 1
            else label
            for entry, seed, label, one in zip(entries, seeds, labels, named, strict=True)
        ]
    return [label if entry.run is not None else str(entry.file) for entry, label in zip(entries, labels, strict=True)]


# --- details


def _result(system: str, labels: Sequence[str], sampled: Sampled, entries: Sequence[Entry], metric: Metric) -> Result:
    mean = sampled.mean()
    runs = [entry.run for entry in entries if entry.run is not None]
    costs = [read_cost(run) for run in runs]
    return Result(
        system,
        {label: float(score) for label, score in zip(labels, sampled.scores_S, strict=True)},
        mean.value,
        mean.interval(),
        {name: fmean(known) for name in COSTS if (known := [cost[name] for cost in costs if name in cost])},
        _curve(runs, metric.name),
    )


def _curve(runs: Sequence[RunFolder], metric: str) -> list[tuple[float, float]]:
    by_step: dict[float, list[float]] = {}
    for run in runs:
        for line in read_lines(run, "evaluations.jsonl"):
            if line["split"] == "valid" and metric in line["scores"]:
                by_step.setdefault(line["step"], []).append(line["scores"][metric])
    return [(step, fmean(by_step[step])) for step in sorted(by_step)]


def _baselines(runs: Sequence[RunFolder], metric: str, split: str) -> list[BaselineResult]:
    found = next((known for run in runs if (known := read_baselines(run))), {})
    return [
        BaselineResult(name, one["summary"], one["scores"][split][metric], tuple(one["intervals"][split][metric]))
        for name, one in found.items()
        if metric in one["scores"].get(split, {})
    ]


def _pairs(
    systems: Sequence[str], sampled: Mapping[str, Sampled], counts: Mapping[str, Mapping[str, Counts]], metric: Metric
) -> list[Pair]:
    found = []
    for first, second in combinations(systems, 2):
        estimate = sampled[first].minus(sampled[second])
        ours, theirs = (list(counts[name].values()) for name in (first, second))
        if len(ours) > 1 or len(theirs) > 1:
            p_value, test = estimate.p_value(), "seeds and examples"
        elif is_right_or_wrong(metric, *ours, *theirs):
            p_value, test = mcnemar_test(ours[0], theirs[0]), "McNemar"
        else:
            p_value, test = permutation_test(metric, ours[0], theirs[0]), "permutation"
        found.append((first, second, estimate, p_value, test))
    adjusted = holm([one[3] for one in found])
    return [
        Pair(first, second, estimate.value, estimate.interval(), p_value, corrected, test)
        for (first, second, estimate, p_value, test), corrected in zip(found, adjusted, strict=True)
    ]


def _mean(board: TaskBoard, system: str) -> float:
    result = board.of(system)
    assert result is not None  # the board has every system
    return result.mean


def _shares(board: TaskBoard) -> dict[str, float]:
    """Return each system's score between the worst and the best of systems and baselines."""
    names = [one.system for one in board.results]
    scores = [*(one.mean for one in board.results), *(one.score for one in board.baselines)]
    return dict(zip(names, normalised(scores, higher_is_better=board.higher_is_better), strict=False))


def _summed(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    ways: dict[str, Callable[[list[float]], float]] = {
        "tokens_per_second": fmean,
        "peak_memory_bytes": max,
        "trainable_parameters": max,
    }
    return {
        name: ways.get(name, sum)(known) for name in COSTS if (known := [cost[name] for cost in costs if name in cost])
    }
