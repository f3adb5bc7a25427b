"""The members of a run: each of its tasks, with what it is trained and evaluated on, and what they score together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from vertebra.engine.evaluate import Evaluation
from vertebra.engine.events import EvaluationEnd
from vertebra.errors import ConfigError
from vertebra.names import by_task, unknown
from vertebra.tasks.features import Features
from vertebra.tasks.task import Task

LOSS = "loss"
"""What `trainer.metric` calls the validation loss."""
MEAN = "mean_score"
"""What the mean of several tasks' primary metrics is called."""


@dataclass(frozen=True)
class Member:
    """One task of a run."""

    task: Task
    examples: Sequence[Sequence[Features]]
    """The features of each training row."""
    names: Sequence[str]
    """The rows' ids."""
    evaluate: Callable[[], Evaluation] | None = None
    """Evaluates on validation; None without any."""
    higher_is_better: bool = True
    """Whether that is so of the metric that picks the best checkpoint, or of its first one where the loss does."""
    weight: float = 1.0
    """What its examples weigh in the loss, beside those of other tasks."""
    share: float | None = None
    """The share of all examples that are its own; None where `trainer.sampling` says it."""
    rate: float = 1.0
    """What its own parameters learn at, in terms of the learning rate."""

    def primary(self, metric: str | None) -> str:
        """Return the metric that picks the best checkpoint, by `trainer.metric`; `ConfigError` for none of the task's."""
        chosen = metric or self.task.metrics[0]
        if chosen not in (*self.task.metrics, LOSS):
            raise ConfigError(f"trainer.metric: {unknown('metric of this task', chosen, (*self.task.metrics, LOSS))}")
        return chosen


def numbered(members: Sequence[Member]) -> Sequence[Sequence[Features]]:
    """Return the examples of all members, one member behind the other; their features say whose they are."""
    if len(members) == 1:  # they are the first one's already, and may be made when they are asked for
        return members[0].examples
    return [of_member(number, example) for number, member in enumerate(members) for example in member.examples]


def of_member(number: int, features: Sequence[Features]) -> list[Features]:
    """Return features that say whose they are."""
    return [one if one.member == number else replace(one, member=number) for one in features]


def evaluation_end(
    found: Evaluation, *, step: int, epoch: float, seconds: float = 0.0, best: bool = False
) -> EvaluationEnd:
    """Return what observers are told of an evaluation."""
    return EvaluationEnd(step, epoch, found.split, found.scores, found.loss, seconds, best)


def primary_score(member: Member, found: Evaluation, metric: str | None) -> tuple[float, bool]:
    """Return the score that picks the best checkpoint, by `trainer.metric`, and whether a higher one is better."""
    name = member.primary(metric)
    return (found.loss, False) if name == LOSS else (found.scores[name], member.higher_is_better)


def mean_score(scores: Sequence[tuple[float, bool]]) -> tuple[float, bool]:
    """Return the mean of primary scores and whether a higher one is better; each comes with that of its own.

    Where it is so of any, scores of which less is better count negatively.
    """
    higher = any(is_higher for _, is_higher in scores)
    return sum(score if is_higher == higher else -score for score, is_higher in scores) / len(scores), higher


def together(members: Sequence[Member], ends: Mapping[str, EvaluationEnd], *, best: bool) -> EvaluationEnd:
    """Return the evaluations of several tasks as one, with the mean of their first metrics and that of their losses."""
    first, *others = ends.values()
    if not others:
        return replace(first, best=best)
    firsts = [
        (found.scores[member.task.metrics[0]], member.higher_is_better)
        for member in members
        if (found := ends.get(member.task.name)) and member.task.metrics[0] in found.scores
    ]
    return EvaluationEnd(
        step=first.step,
        epoch=first.epoch,
        split=first.split,
        scores={
            **({MEAN: mean_score(firsts)[0]} if firsts else {}),
            **by_task({name: one.scores for name, one in ends.items()}),
        },
        loss=sum(one.loss for one in ends.values()) / len(ends),
        seconds=sum(one.seconds for one in ends.values()),
        best=best,
        tasks=dict(ends),
    )
