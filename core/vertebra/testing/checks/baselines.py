"""Whether the task's baselines fit and predict."""

from __future__ import annotations

import math
from collections.abc import Iterator

from vertebra.runs.baselines import compute, described
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.testing.breaches import Breach, DoesNotApplyError
from vertebra.testing.case import Case


def check(case: Case) -> Iterator[Breach]:
    """Score each baseline on the few rows."""
    prepared, _ = case.prepared
    if not list(prepared.task.baselines()):
        raise DoesNotApplyError("the task has no baselines")
    computed = compute(prepared.task, prepared.metrics, prepared.splits, cache=False)
    for what, error in computed.errors.items():
        yield Breach(
            case.place("baselines"),
            f"{what} failed: {described(error)}",
            "a baseline returns one prediction for each row, of the form that `combine` returns, and needs a library that the "
            "plugin's package depends on",
        )
    for name, scores in computed.scores.items():
        bad = [metric for some in scores.scores.values() for metric, score in some.items() if not math.isfinite(score)]
        if bad and not isinstance(prepared.task, CorpusTask):
            yield Breach(
                case.place("baselines"), f"'{name}' has no finite {bad[0]}", "a score is a number, 0.0 where undefined"
            )
