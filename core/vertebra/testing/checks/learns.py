"""Whether a tiny model learns a few rows, and learns them from their text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from vertebra.engine.evaluate import Evaluation
from vertebra.metrics.metric import Metric
from vertebra.runs.load import LoadedRun, load
from vertebra.tasks.features import Features
from vertebra.testing.breaches import Breach
from vertebra.testing.case import Case

STEPS = 150
FALL = 0.1
"""The share of the training rows' loss before training that must be gone after it."""


def check(case: Case) -> Iterator[Breach]:
    """Train on a few rows, and compare with an untrained model and with one that sees no token."""
    settings = {"max_steps": STEPS, **case.trainer}
    config = case.config(steps=settings["max_steps"], dropout=False, **settings)
    run = load(case.train("learnt", config), device="cpu", host=case.host)
    metric, before = case.prepared[0].metrics[0], case.untrained
    prepared, model = case.prepared
    first, last = case.training_loss(prepared.task, model), case.training_loss(run.task, run.model)
    if last >= first - FALL * abs(first):
        yield Breach(
            case.place("loss"),
            f"after {settings['max_steps']} steps on {len(prepared.splits.rows['train'])} rows the loss of these rows is "
            f"{last:.4g}, and it was {first:.4g}",
            "the loss does not fall with what is right (a wrong sign, a constant), targets do not belong to their rows, or the "
            "head takes no gradient; a task that is only slow needs `trainer={'max_steps': …, 'learning_rate': …}`",
        )
        return
    after = predict(case, run, case.features)
    name = metric.name
    if not better(metric, after, before):
        yield Breach(
            case.place("decode"),
            f"the loss fell, and {name} on the rows that were learnt went from {before.scores[name]:.4g} to "
            f"{after.scores[name]:.4g}",
            "`decode` does not say what the loss teaches, or the metric does not measure it",
        )
        return
    run.task.shared = dealt(run.task.shared)
    blind = predict(case, run, dealt(case.features))
    if not better(metric, after, blind):
        yield Breach(
            case.place("encode"),
            f"{name} is {after.scores[name]:.4g} on the rows that were learnt, and {blind.scores[name]:.4g} where each is read "
            "with the tokens of another one: it does not look at its own text",
            "`encode` leaves out the text, or the head reads a position that says nothing of it (`Features.positions`)",
        )
    enough = case.min_score is None or (after.scores[name] >= case.min_score) == metric.higher_is_better
    if not enough:
        yield Breach(
            case.place("loss"),
            f"{name} is {after.scores[name]:.4g} on the rows that were learnt; {case.min_score:.4g} was expected",
            "training is too short for it (`trainer={'max_steps': …}`), or the task learns less than its rows say",
        )


def predict(case: Case, run: LoadedRun, features: list[Features]) -> Evaluation:
    """Return what a run says of the judged rows."""
    return case.evaluate(run.task, run.model, case.rows, features)


def better(metric: Metric, one: Evaluation, other: Evaluation) -> bool:
    """Whether the first has the better score."""
    gain = one.scores[metric.name] - other.scores[metric.name]
    return (gain if metric.higher_is_better else -gain) > 0


def dealt(features: Sequence[Features]) -> list[Features]:
    """Return features each of which has the tokens of the next one, repeated or cut to its own length."""
    following = [*features[1:], *features[:1]]
    return [
        replace(one, input_ids=np.resize(other.input_ids, len(one)))
        for one, other in zip(features, following, strict=True)
    ]
