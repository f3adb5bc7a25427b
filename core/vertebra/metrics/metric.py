"""Metrics: what one example counts, and the score of many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vertebra.tasks.task import Row, Task

Counts = NDArray[np.float64]


class Metric(ABC):
    """A score in two parts, so that intervals and paired tests come for nothing.

    `count` says what one example adds, K numbers; `score` makes one number of the counts (E, K) of E examples. Resampling
    the rows of that matrix gives the bootstrap.
    """

    name: ClassVar[str]
    """The name that it is registered under."""
    higher_is_better: ClassVar[bool] = True
    """Whether the best checkpoint is the one with the highest score; False for errors and losses."""

    @classmethod
    def for_task(cls, task: Task) -> Self:
        """Return the metric as a task needs it; one that depends on the task's settings, such as a language, looks there."""
        return cls()

    @abstractmethod
    def count(self, prediction: Any, reference: Any) -> tuple[float, ...]:
        """Return the K numbers that one example adds."""

    def count_row(self, row: Row, prediction: Any, reference: Any) -> tuple[float, ...]:
        """Return the K numbers of one example; by default `count`. A metric that looks at what was read overrides this."""
        return self.count(prediction, reference)

    @abstractmethod
    def score(self, counts_EK: Counts) -> float:
        """Return the score of E examples; 0.0 where it is not defined, never NaN."""


class Mean(Metric):
    """A metric that is the mean of one number per example; `value` gives that number."""

    @abstractmethod
    def value(self, prediction: Any, reference: Any) -> float:
        """Return this example's number."""

    def count(self, prediction: Any, reference: Any) -> tuple[float, ...]:
        """Return (value,)."""
        return (self.value(prediction, reference),)

    def score(self, counts_EK: Counts) -> float:
        """Return the mean."""
        return float(counts_EK[:, 0].mean()) if len(counts_EK) else 0.0


def count(
    metric: Metric, predictions: Sequence[Any], references: Sequence[Any], rows: Sequence[Row] | None = None
) -> Counts:
    """Return what every row counts for a metric, (E, K); without `rows` only what predictions and references say."""
    if rows is None:
        counted = [metric.count(*one) for one in zip(predictions, references, strict=True)]
    else:
        counted = [metric.count_row(*one) for one in zip(rows, predictions, references, strict=True)]
    return np.asarray(counted, dtype=np.float64).reshape(len(counted), -1)
