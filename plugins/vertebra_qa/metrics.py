"""Scores of answers: exact match and F1, the mean over all questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from vertebra.metrics.metric import Mean
from vertebra_qa.agreement import ScoreBy, exact_match, f1

if TYPE_CHECKING:
    from vertebra.tasks.task import Task


class _Agreement(Mean):
    """A score of a text against right answers."""

    def __init__(self, score_by: ScoreBy = "auto") -> None:
        self.score_by = score_by

    @classmethod
    def for_task(cls, task: Task) -> Self:
        """Return the score as the task's settings have it."""
        return cls(getattr(task.config, "score_by", "auto"))


class ExactMatch(_Agreement):
    """The share of questions whose answer equals a right one, or is rightly withheld."""

    name: ClassVar[str] = "exact_match"

    def value(self, prediction: Any, reference: Any) -> float:
        """Return 0.0 or 1.0."""
        return exact_match(prediction["text"], reference["answers"], self.score_by)


class AnswerF1(_Agreement):
    """The mean F1 of answers with the right ones; 1 where an answer is rightly withheld."""

    name: ClassVar[str] = "answer_f1"

    def value(self, prediction: Any, reference: Any) -> float:
        """Return from 0.0 to 1.0."""
        return f1(prediction["text"], reference["answers"], self.score_by)
