"""The baselines of a task: fitted on the training rows, scored as the model is, and kept on disk.

An entry of the cache is one baseline's scores under a key of everything that they depend on: rows, task, code.
"""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vertebra.data.entries import Entries, cache_root
from vertebra.data.keys import code_fingerprint, hashed, name_of, task_parts
from vertebra.data.load import Splits, fingerprint
from vertebra.errors import PluginError, VertebraError
from vertebra.metrics.bootstrap import interval
from vertebra.metrics.metric import Metric, count
from vertebra.report.progress import working
from vertebra.tasks.baseline import Baseline
from vertebra.tasks.task import Row, Task

logger = logging.getLogger(__name__)

FORMAT = 1
EVALUATED = ("valid", "test")
_SCORES = "scores.json"


@dataclass(frozen=True)
class BaselineScores:
    """What a baseline reaches; `scores` and `intervals` are by split, as in `metrics.json` and `intervals.json`."""

    summary: str
    seconds: float
    """What fitting and predicting took where it was computed, which the cache may remember from another time."""
    scores: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Computed:
    """The scores of a task's baselines by name, in the task's order, and why others have none."""

    scores: dict[str, BaselineScores] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """A line for each failure."""
        return [f"{what} failed: {described(error)}" for what, error in self.errors.items()]

    def document(self) -> dict[str, Any]:
        """Return the scores as `baselines.json` has them."""
        return {name: asdict(scores) for name, scores in self.scores.items()}


def compute(task: Task, metrics: Sequence[Metric], splits: Splits, *, cache: bool = True) -> Computed:
    """Score every baseline of a fitted task on validation and test; one that fails costs the others nothing.

    With `cache`, scores that are known for the same rows, task and code are taken from disk.
    """
    kept = BaselineCache() if cache else None
    computed = Computed()
    try:
        baselines = list(task.baselines())
    except Exception as error:
        return Computed(errors={f"the baselines of task '{task.name}'": error})
    for number, baseline in enumerate(baselines, start=1):
        title = f"computing the baseline '{baseline.name}' ({number} of {len(baselines)})"
        try:
            computed.scores[baseline.name] = _known_or_new(baseline, metrics, splits, kept, title)
        except Exception as error:  # a plugin's mistake, a library that is not there, rows it cannot take
            logger.debug("Baseline '%s' of task '%s' failed.", baseline.name, task.name, exc_info=True)
            computed.errors[f"baseline '{baseline.name}'"] = error
    return computed


def compute_elsewhere(
    task: Task, metrics: Sequence[Metric], own: Splits, rows: Mapping[str, Sequence[Row]], *, cache: bool = True
) -> Computed:
    """Score every baseline of a fitted task on the splits of another data set, fitted on the task's `own`.

    What a baseline chooses on validation, it chooses on its own.
    """
    computed = Computed()
    for split, some in rows.items():
        together = {**own.rows, "test": some}
        found = compute(task, metrics, Splits(together, fingerprint(together)), cache=cache)
        computed.errors.update(found.errors)
        for name, scored in found.scores.items():
            whole = computed.scores.setdefault(name, replace(scored, scores={}, intervals={}))
            whole.scores[split], whole.intervals[split] = scored.scores["test"], scored.intervals["test"]
    return computed


def described(error: Exception) -> str:
    """Return an error in one line; what a user can mend stands for itself, anything else with its kind."""
    said = " ".join(str(error).split())
    return said if isinstance(error, VertebraError) else f"{type(error).__name__}: {said}"


def _known_or_new(
    baseline: Baseline, metrics: Sequence[Metric], splits: Splits, cache: BaselineCache | None, title: str
) -> BaselineScores:
    key = baseline_key(baseline, metrics, splits) if cache is not None else ""
    known = cache.get(key) if cache is not None else None
    if known is not None:
        return known
    with working(title):
        scores = score(baseline, metrics, splits.rows)
    if cache is not None:
        cache.put(key, scores)
    return scores


def score(baseline: Baseline, metrics: Sequence[Metric], rows: Mapping[str, Sequence[Row]]) -> BaselineScores:
    """Fit a baseline and score it on the splits that are evaluated; what it does to its task is seen by nobody else."""
    baseline.task = copy.deepcopy(baseline.task)
    began = time.perf_counter()
    baseline.fit(rows["train"], rows.get("valid", ()))
    predictions = {split: baseline.predict(rows[split]) for split in EVALUATED if split in rows}
    seconds = time.perf_counter() - began
    scores: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, list[float]]] = {}
    for split, predicted in predictions.items():
        if len(predicted) != len(rows[split]):
            raise PluginError(f"it gave {len(predicted)} predictions for the {len(rows[split])} rows of {split}.")
        references = [baseline.task.reference(row) for row in rows[split]]
        counts = {metric.name: count(metric, predicted, references, rows[split]) for metric in metrics}
        scores[split] = {metric.name: float(metric.score(counts[metric.name])) for metric in metrics}
        intervals[split] = {metric.name: list(interval(metric, counts[metric.name])) for metric in metrics}
    return BaselineScores(baseline.summary, round(seconds, 2), scores, intervals)


def baseline_key(baseline: Baseline, metrics: Sequence[Metric], splits: Splits) -> str:
    """Return a hash of what a baseline's scores depend on: the rows, the task, the baseline, the metrics, their code."""
    owners = [type(baseline), type(baseline.task), *map(type, metrics)]
    return hashed(
        {
            **task_parts(baseline.task),
            "rows": splits.fingerprint,
            "baseline": [baseline.name, name_of(type(baseline))],
            "metrics": [[metric.name, name_of(type(metric))] for metric in metrics],
            "code": code_fingerprint(*owners),
        }
    )


class BaselineCache:
    """Scores of baselines by key, in a folder that several processes may share."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or cache_root()) / "baselines"
        self._entries = Entries(self.root, FORMAT, (_SCORES,))

    def get(self, key: str) -> BaselineScores | None:
        """Return what was put under a key, or None where nothing whole is there."""
        try:
            return BaselineScores(**json.loads((self._entries.find(key) / _SCORES).read_bytes()))
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever is wrong with the entry, it can be made anew
            logger.warning("A cached baseline is made anew: '%s' cannot be used: %s", self.root / key, error)
            return None

    def put(self, key: str, scores: BaselineScores) -> None:
        """Keep scores; where the folder cannot be written, say so and go on."""

        def fill(folder: Path) -> None:
            (folder / _SCORES).write_text(json.dumps(asdict(scores)), encoding="utf-8")

        try:
            self._entries.add(key, fill)
        except OSError as error:
            logger.warning("Cannot keep baselines in '%s': %s. Set VERTEBRA_CACHE=FOLDER.", self.root, error)
