"""The results of a run: scores, their intervals, predictions, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vertebra.engine.evaluate import Evaluation
from vertebra.metrics.bootstrap import interval
from vertebra.metrics.metric import Metric
from vertebra.report.figures import ConfusionMatrix, Figure
from vertebra.runs.folder import RunFolder
from vertebra.tasks.task import Row, Task


def write_results(
    run: RunFolder,
    task: Task,
    metrics: Sequence[Metric],
    rows: Mapping[str, Sequence[Row]],
    evaluations: Sequence[Evaluation],
) -> None:
    """Write metrics.json, intervals.json, predictions.jsonl and figures.json."""
    run.write_json("metrics.json", {one.split: one.scores for one in evaluations})
    run.write_json("intervals.json", {one.split: intervals(metrics, one) for one in evaluations})
    run.write_lines(
        "predictions.jsonl",
        (line for one in evaluations for line in prediction_lines(task, metrics[0], rows[one.split], one)),
    )
    figures = {one.split: task.figures(one.predictions, one.references) for one in evaluations}
    run.write_json("figures.json", {split: [to_json(one) for one in some] for split, some in figures.items()})


def intervals(metrics: Sequence[Metric], evaluation: Evaluation) -> dict[str, list[float]]:
    """Return the 95 % bootstrap interval of each metric."""
    return {metric.name: list(interval(metric, evaluation.counts[metric.name])) for metric in metrics}


def prediction_lines(
    task: Task, primary: Metric, rows: Sequence[Row], evaluation: Evaluation
) -> Iterator[dict[str, Any]]:
    """Yield one line for each row; `score` is the primary metric on that row alone."""
    counts = evaluation.counts[primary.name]
    for number, row in enumerate(rows):
        yield {
            "id": row["id"],
            "split": evaluation.split,
            "input": {name: row[name] for name in task.needed_for_prediction()},
            "prediction": evaluation.predictions[number],
            "reference": evaluation.references[number],
            "right": task.right(evaluation.predictions[number], evaluation.references[number]),
            "score": primary.score(counts[number : number + 1]),
        }


def to_json(figure: Figure) -> dict[str, Any]:
    """Return a figure as `figures.json` has it."""
    kind = "confusion" if isinstance(figure, ConfusionMatrix) else "table"
    return {"kind": kind, **asdict(figure)}
