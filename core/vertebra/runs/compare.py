"""Two systems on the same rows: how far apart their scores are, whether that is real, and on which rows and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vertebra.config.document import from_document
from vertebra.errors import DataError, RunError
from vertebra.host.manager import Host
from vertebra.metrics.bootstrap import Sampled
from vertebra.metrics.metric import Counts, Metric
from vertebra.report.figures import Table
from vertebra.report.labels import LABEL_COLUMNS
from vertebra.runs.folder import RunFolder
from vertebra.runs.load import restore_task
from vertebra.runs.predictions import Predicted, read_file, read_run, refuse_other_rows
from vertebra.runs.tasks import load_metrics
from vertebra.statistics.paired import is_right_or_wrong, mcnemar_test, permutation_test
from vertebra.tasks.task import Task

RESAMPLES = 2000


@dataclass(frozen=True)
class MetricChange:
    """One metric of both systems; `difference` is the second one's score less the first one's."""

    metric: str
    higher_is_better: bool
    scores: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    """95 %, from resampling the rows."""
    p_value: float
    """Of the permutation test; McNemar's where rows are right or wrong."""
    test: str


@dataclass(frozen=True)
class RowChange:
    """One row, which counts for the second system (`change` > 0) or against it, by the primary metric on that row alone."""

    id: str
    change: float
    input: dict[str, Any]
    reference: Any
    predictions: tuple[Any, Any]


@dataclass(frozen=True)
class LabelChange:
    """One label in the reports of both systems."""

    label: str
    f1: tuple[float, float]
    support: int


@dataclass(frozen=True)
class Comparison:
    """The second system compared with the first."""

    names: tuple[str, str]
    task: str
    split: str
    rows: int
    metrics: list[MetricChange]
    won: int
    """Rows on which the second system is better, by the primary metric on the row alone."""
    lost: int
    striking: list[RowChange]
    """Rows won and lost, in turns, the largest changes first."""
    labels: list[LabelChange]
    """None where the task has no report by label."""
    notes: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return asdict(self)


def compare_runs(
    first: Path,
    second: Path,
    host: Host,
    *,
    split: str = "test",
    is_file: bool = False,
    examples: int = 5,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare a run with another one, or with a file of another tool's predictions, on the same rows.

    `RunError` where the two were not made for the same task and rows.
    """
    run = RunFolder.open(first)
    config = from_document(run.read_config(), host)
    task = restore_task(config, run, host)
    metrics = load_metrics(task, host)
    one = read_run(run, split)
    if is_file:
        other = read_file(second, one, task, metrics[0])
    else:
        against = RunFolder.open(second)
        tasks = against.read_state().get("tasks")
        if tasks != [task.name]:
            raise RunError(
                f"'{run.path}' is a run of task {task.name} and '{against.path}' one of {', '.join(tasks or ['none'])}: they "
                "cannot be compared."
            )
        other = read_run(against, split)
        refuse_other_rows(one, other)
    return compare(one, other, task, metrics, examples=examples, resamples=resamples)


def compare(
    one: Predicted,
    other: Predicted,
    task: Task,
    metrics: Sequence[Metric],
    *,
    examples: int = 5,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare two systems that predicted the same rows; the first metric decides which rows are won."""
    changes, notes, primary = [], [], None
    for metric in metrics:
        try:
            counts = one.counts(metric), other.counts(metric)
        except DataError as error:
            if metric is metrics[0]:
                raise
            notes.append(f"{metric.name} is left out. {error}")
            continue
        primary = primary or counts
        changes.append(change(metric, *counts, resamples=resamples))
    assert primary is not None
    gains = gains_by_row(metrics[0], *primary)
    labels = label_changes(task, one, other, notes)
    return Comparison(
        names=(one.name, other.name),
        task=task.name,
        split=one.split,
        rows=len(one.ids),
        metrics=changes,
        won=sum(gain > 0 for gain in gains),
        lost=sum(gain < 0 for gain in gains),
        striking=striking(one, other, gains, examples),
        labels=labels,
        notes=notes,
    )


def change(metric: Metric, ours: Counts, theirs: Counts, *, resamples: int = RESAMPLES) -> MetricChange:
    """Return how a metric changes from the first system's counts to the second's, with the test that suits it."""
    sampled = [Sampled.of(metric, [counts], resamples=resamples) for counts in (ours, theirs)]
    estimate = sampled[1].minus(sampled[0])
    exact = is_right_or_wrong(metric, ours, theirs)
    p_value = mcnemar_test(ours, theirs) if exact else permutation_test(metric, ours, theirs)
    return MetricChange(
        metric.name,
        metric.higher_is_better,
        (sampled[0].mean().value, sampled[1].mean().value),
        estimate.value,
        estimate.interval(),
        p_value,
        "McNemar" if exact else "permutation",
    )


def gains_by_row(metric: Metric, ours: Counts, theirs: Counts) -> list[float]:
    """Return for each row by how much the second system is better on it alone."""
    sign = 1 if metric.higher_is_better else -1
    alone = [[metric.score(counts[row : row + 1]) for row in range(len(counts))] for counts in (ours, theirs)]
    return [sign * (second - first) for first, second in zip(*alone, strict=True)]


def striking(one: Predicted, other: Predicted, gains: Sequence[float], examples: int) -> list[RowChange]:
    """Return the rows with the largest changes, won and lost in turns; at most so many of each."""
    order = sorted(range(len(gains)), key=lambda row: -abs(gains[row]))
    won = [row for row in order if gains[row] > 0][:examples]
    lost = [row for row in order if gains[row] < 0][:examples]
    turns = [row for pair in zip(won, lost, strict=False) for row in pair]
    rows = [*turns, *won[len(lost) :], *lost[len(won) :]]
    return [
        RowChange(
            one.ids[row],
            gains[row],
            dict(one.rows[row]),
            one.references[row],
            (one.predictions[row], other.predictions[row]),
        )
        for row in rows
    ]


def label_changes(task: Task, one: Predicted, other: Predicted, notes: list[str]) -> list[LabelChange]:
    """Return the F1 of each label by both systems, from the task's own report by label; empty where it has none."""
    try:
        ours, theirs = (label_report(task, system) for system in (one, other))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        notes.append(f"There are no changes by label: '{other.name}' lacks what the task's tables show ({error}).")
        return []
    return [
        LabelChange(label, (f1, theirs[label][0] if label in theirs else 0.0), support)
        for label, (f1, support) in ours.items()
    ]


def label_report(task: Task, system: Predicted) -> dict[str, tuple[float, int]]:
    """Return the F1 and the support of each label, from the first report by label among the task's figures."""
    for figure in task.figures(system.predictions, system.references):
        if isinstance(figure, Table) and figure.columns == LABEL_COLUMNS:
            return {str(row[0]): (float(row[3]), int(row[4])) for row in figure.rows}
    return {}
