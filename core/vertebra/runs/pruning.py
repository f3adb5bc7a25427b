"""Giving up a run whose scores promise nothing: at the end of a step, with a checkpoint, and with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vertebra.engine.events import EvaluationEnd
from vertebra.errors import PrunedError, StoppedError
from vertebra.host.hookspecs import hookimpl

Prune = Callable[[EvaluationEnd], str | None]
"""Told of each evaluation of validation in training; returns why the run is to be given up, or None."""


class Pruning:
    """An observer that remembers whether its run is to be given up."""

    def __init__(self, prune: Prune | None = None) -> None:
        self.prune = prune
        self.reason: str | None = None

    @hookimpl
    def evaluation_ended(self, evaluation: EvaluationEnd) -> None:
        """Ask whether to go on."""
        if self.prune is not None and evaluation.split == "valid":
            self.reason = self.prune(evaluation)

    @contextmanager
    def told_apart(self) -> Iterator[None]:
        """Raise `PrunedError` instead of `StoppedError` where the run stopped because it was given up."""
        try:
            yield
        except StoppedError as error:
            if self.reason is None:
                raise
            raise PrunedError(self.reason) from error
