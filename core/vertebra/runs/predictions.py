"""What was predicted of the rows of a split: by a run, or by another tool."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vertebra.data.files import require_file
from vertebra.errors import DataError, RunError
from vertebra.metrics.metric import Counts, Metric
from vertebra.report.read import read_lines
from vertebra.runs.folder import RunFolder
from vertebra.tasks.task import Row, Task


@dataclass(frozen=True)
class Predicted:
    """The predictions of one run or one file; one entry for each row of a split, in the split's order."""

    name: str
    """What it is called in messages and tables."""
    split: str
    ids: Sequence[str]
    rows: Sequence[Row]
    """The columns that were read."""
    references: Sequence[Any]
    predictions: Sequence[Any]

    def counts(self, metric: Metric) -> Counts:
        """Return what each row counts, (E, K). Systems that are compared are counted by one metric object.

        Raises `DataError` where a prediction is not of the task's form, with the row.
        """
        import numpy as np

        counted = []
        for number, row in enumerate(self.rows):
            try:
                counted.append(metric.count_row(row, self.predictions[number], self.references[number]))
            except Exception as error:  # whatever a metric does with a value of another form
                reason = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
                raise DataError(
                    f"'{self.name}': the prediction of row '{self.ids[number]}' cannot be scored by {metric.name} "
                    f"({reason}): {shortened(self.predictions[number])}."
                ) from error
        return np.asarray(counted, dtype=np.float64).reshape(len(counted), -1)


def read_run(run: RunFolder, split: str, name: str | None = None) -> Predicted:
    """Return what a finished run predicted; `RunError` where it has no predictions of the split."""
    lines = list(read_lines(run, "predictions.jsonl"))
    if not all(isinstance(line, dict) for line in lines):
        raise RunError(f"'{run.path / 'predictions.jsonl'}' is damaged: a line is no prediction.")
    if not any(line.get("split") == split for line in lines):
        there = sorted({str(line.get("split")) for line in lines})
        raise RunError(
            f"The run in '{run.path}' has no predictions of {split}; it has {', '.join(there) or 'none'}."
            f"{'' if there else ' Only a run that has finished has them.'}"
        )
    try:
        chosen = [line for line in lines if line["split"] == split]
        ids, rows, references, predictions = (
            [line[key] for line in chosen] for key in ("id", "input", "reference", "prediction")
        )
    except KeyError as error:
        raise RunError(f"'{run.path / 'predictions.jsonl'}' is damaged: a line has no {error}.") from None
    return Predicted(name or str(run.path), split, ids, rows, references, predictions)


def refuse_other_rows(one: Predicted, other: Predicted) -> None:
    """Raise `RunError` where two systems predicted different rows, naming both and the first row that differs."""
    if len(one.ids) != len(other.ids):
        raise RunError(
            f"'{one.name}' and '{other.name}' were scored on different data: {len(one.ids)} and {len(other.ids)} rows of "
            f"{one.split}. Only runs on the same rows can be compared."
        )
    for number, known in enumerate(one.ids):
        if known != other.ids[number]:
            what = f"row {number + 1} is '{known}' in the one and '{other.ids[number]}' in the other"
        elif one.rows[number] != other.rows[number]:
            what = f"row '{known}' reads {shortened(one.rows[number])} in the one, {shortened(other.rows[number])} in the other"
        elif one.references[number] != other.references[number]:
            what = f"the reference of row '{known}' is not the same"
        else:
            continue
        raise RunError(
            f"'{one.name}' and '{other.name}' were scored on different data: {what}. Only runs on the same rows of "
            f"{one.split} can be compared."
        )


def read_file(file: Path, known: Predicted, task: Task, metric: Metric, name: str | None = None) -> Predicted:
    """Return the predictions of another tool for the rows of `known`, in the task's form.

    The file has one JSON object a line with `id` and `prediction`, in any order. Where predictions are not of the form that the
    run itself writes, they are taken for what this form holds (`"positive"` for `{"label": "positive"}`) or for what the task
    makes a prediction of (a list of tags, say), whichever `metric` can score. `DataError` names what is wrong, by line.
    """
    require_file(file)
    if len(set(known.ids)) < len(known.ids):
        raise DataError(
            f"The rows of '{known.name}' have ids that occur more than once: no file can be matched to them."
        )
    given: dict[str, Any] = {}
    places = {one: number for number, one in enumerate(known.ids)}
    for number, line in _objects(file):
        if "id" not in line or "prediction" not in line:
            lacks = "prediction" if "id" in line else "id"
            raise DataError(
                f"Line {number} of '{file}' has no '{lacks}': each line is {{\"id\": …, \"prediction\": …}}."
            )
        if line["id"] not in places:
            raise DataError(
                f"Line {number} of '{file}' is for row {line['id']!r}, which is not among the {len(places)} rows of "
                f"{known.split} of '{known.name}' ('{known.ids[0]}' is the first)."
            )
        if line["id"] in given:
            raise DataError(f"Line {number} of '{file}' gives row '{line['id']}' a second prediction.")
        given[line["id"]] = line["prediction"]
    missing = [one for one in known.ids if one not in given]
    if missing:
        raise DataError(
            f"'{file}' has no prediction for {len(missing)} of the {len(known.ids)} rows of {known.split}, such as "
            f"'{missing[0]}'."
        )
    predictions = [given[one] for one in known.ids]
    return in_form(replace(known, name=name or str(file), predictions=predictions), known, task, metric)


def in_form(read: Predicted, known: Predicted, task: Task, metric: Metric) -> Predicted:
    """Return predictions in the task's own form; `DataError` that shows this form where they cannot be taken for it."""

    def held(number: int) -> Any:
        ((key, reference),) = known.references[number].items()
        if type(read.predictions[number]) is not type(reference):
            raise TypeError("a value of another kind")
        return {key: read.predictions[number]}

    def made(number: int) -> Any:
        return task.combine(read.rows[number], [read.predictions[number]])

    try:
        read.counts(metric)
        return read
    except DataError as error:
        as_they_are = error
    for form in (held, made):
        try:
            formed = replace(read, predictions=[form(number) for number in range(len(read.ids))])
            formed.counts(metric)
        except Exception:  # another form may do
            continue
        return formed
    raise DataError(
        f"{as_they_are} Predictions of task '{task.name}' look like {shortened(known.predictions[0], 200)}."
    ) from None


def shortened(value: Any, most: int = 80) -> str:
    """Return a value as JSON, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _objects(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"'{file}' is no text in UTF-8.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(f"Line {number} of '{file}' is not JSON: {error}.") from None
        if not isinstance(value, dict):
            raise DataError(
                f'Line {number} of \'{file}\' is no JSON object: each line is {{"id": …, "prediction": …}}.'
            )
        yield number, value
