"""A backbone keeps what it has learnt before by staying near to where it began: L2-SP, and elastic weight consolidation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vertebra.engine.backbone import Backbone


class StartingPoint:
    """The weights that a backbone begins a run with, which its later ones are pulled to.

    The loss that is minimised has Σ_i (a_i / 2) (w_i − w₀_i)² over the backbone's weights added to it, once a step. With the
    same a_i = α for all it is L2-SP (Li, Grandvalet and Davoine 2018); with a_i = λ F_i, F being the diagonal of the Fisher
    information of an earlier task, elastic weight consolidation (Kirkpatrick and others 2017). It is no part of the loss that
    is reported, so that losses of runs with and without it can be compared.
    """

    def __init__(
        self, backbone: Backbone, l2sp: float, ewc: float = 0.0, fisher: Mapping[str, Tensor] | None = None
    ) -> None:
        """Take the weights as they stand; a run that is resumed loads the same ones first.

        `l2sp` is α and `ewc` is λ, which add up; `fisher` has F by the names of the backbone's parameters.
        """
        self._pulls: list[tuple[torch.nn.Parameter, Tensor, Tensor | float]] = []
        for name, parameter in backbone.named_parameters():
            if parameter.requires_grad:
                strength = l2sp if fisher is None else fisher[name].to(parameter.device) * ewc + l2sp
                self._pulls.append((parameter, parameter.detach().clone(), strength))

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add the penalty's gradients to those of a step, when these are whole."""
        for parameter, first, strength in self._pulls:
            pull = (parameter - first).mul_(strength)
            parameter.grad = pull if parameter.grad is None else parameter.grad.add_(pull)
