"""Baselines: what can be had without a backbone, so that a score can be judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from vertebra.tasks.task import Row, Task


class Baseline(ABC):
    """A simple predictor, fitted in seconds on the CPU and scored by its task's own metrics.

    It gets a task that has been fitted on the training rows. Any model that is worth its computation does better.
    """

    name: ClassVar[str]
    """One or two words, as a table shows them."""
    summary: ClassVar[str]
    """One line that says how it predicts."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @abstractmethod
    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        """Learn from the training rows; what needs choosing, such as a threshold, is chosen on the validation rows."""

    @abstractmethod
    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """Return one prediction for each row, of the same form as the task's own."""
