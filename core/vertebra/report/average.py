"""A smooth line through a noisy one."""

from __future__ import annotations


class Average:
    """An exponential moving average; `keep` is the weight that remains of a value at each step.

    It is divided by the weights so far, so that the first values do not weigh more than later ones.
    """

    def __init__(self, keep: float = 0.95) -> None:
        self.keep = keep
        self._sum = 0.0
        self._weight = 0.0

    def add(self, value: float) -> float:
        """Take in a value and return the average."""
        self._sum = self.keep * self._sum + (1 - self.keep) * value
        self._weight = self.keep * self._weight + (1 - self.keep)
        return self._sum / self._weight
