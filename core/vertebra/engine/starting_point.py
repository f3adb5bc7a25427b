"""L2-SP (Li, Grandvalet and Davoine, 2018): what a backbone has learnt before is kept by staying near to where it began."""

from __future__ import annotations

import torch

from vertebra.engine.backbone import Backbone


class StartingPoint:
    """The weights that a backbone begins a run with, which its later ones are pulled to.

    The loss that is minimised has (α / 2) ‖w − w₀‖² over the backbone's weights added to it, once a step. It is no part of the
    loss that is reported, so that losses of runs with and without it can be compared.
    """

    def __init__(self, backbone: Backbone, strength: float) -> None:
        """Take the weights as they stand; a run that is resumed loads the same ones first. `strength` is α."""
        self.strength = strength
        trained = [one for one in backbone.parameters() if one.requires_grad]
        self._first = [(parameter, parameter.detach().clone()) for parameter in trained]

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add the penalty's gradients to those of a step, when these are whole."""
        for parameter, first in self._first:
            pull = (parameter - first).mul_(self.strength)
            parameter.grad = pull if parameter.grad is None else parameter.grad.add_(pull)
