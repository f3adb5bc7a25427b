"""Adversarial training, a behaviour of the core: `trainer.behaviours=[fgm]`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vertebra.host.hookspecs import hookimpl


class FastGradient:
    """Learns each piece of a step twice: as it is, and with the embeddings moved to where its loss grows fastest.

    The fast gradient method of Miyato, Dai and Goodfellow ("Adversarial training methods for semi-supervised text
    classification", ICLR 2017): they move along the piece's own gradient, and the two losses add up. The paper moves those of
    each text by themselves; here they are moved as rows of the matrix, for all texts of a piece at once. Where the matrix is
    also the output, that moves with it.
    """

    SIZE = 1.0
    """The norm of the move, in units of the embeddings."""

    def __init__(self) -> None:
        self._gradient_before: Tensor | None = None

    @hookimpl
    def backward_starting(self, model: Any) -> None:
        """Keep what earlier pieces of the step have added to the gradient."""
        gradient = _embeddings(model).grad
        self._gradient_before = None if gradient is None else gradient.clone()

    @hookimpl
    def backward_ended(self, model: Any, compute_loss: Callable[[], Tensor]) -> None:
        """Learn the piece once more with the embeddings moved, and move them back."""
        weight = _embeddings(model)
        assert weight.grad is not None
        own = weight.grad if self._gradient_before is None else weight.grad - self._gradient_before
        before = weight.detach().clone()
        try:
            with torch.no_grad():
                weight += self.SIZE * own / own.norm().clamp(min=1e-12)
            torch.autograd.backward(compute_loss())
        finally:  # also where memory runs out
            with torch.no_grad():
                weight.copy_(before)


def _embeddings(model: Any) -> Tensor:
    weight: Tensor = model.backbone.model.get_input_embeddings().weight
    return weight
