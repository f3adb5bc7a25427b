"""Muon: updates of the layers' matrices that move all of their directions alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from vertebra.engine.adamw import AdamW

# The quintic of Jordan and others: five times a·x + b·x³ + c·x⁵ bring every singular value close to 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(AdamW):
    """Muon (Jordan and others, 2024) for matrices inside layers, AdamW for everything else.

    An update is the gradient's Nesterov momentum with its singular values made equal, so that rare directions are learnt
    like frequent ones. It is as large as one of AdamW is in general (Liu and others 2025, arXiv:2502.16982), so one
    learning rate serves both. Groups with `hidden=True` hold the layers' matrices.
    """

    def __init__(
        self, groups: list[dict[str, Any]], betas: tuple[float, float], eps: float, momentum: float = 0.95
    ) -> None:
        super().__init__(groups, betas, eps)
        self.momentum = momentum

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take back a state; Adam's own way expects its moments of every parameter."""
        torch.optim.Optimizer.__setstate__(self, state)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters by their gradients."""
        assert closure is None
        hidden = [group for group in self.param_groups if group["hidden"]]
        gradients = {one: one.grad for group in hidden for one in group["params"] if one.grad is not None}
        for parameter in gradients:
            parameter.grad = None
        super().step()
        for group in hidden:
            for parameter in group["params"]:
                if parameter in gradients:
                    self._update_matrix(parameter, gradients[parameter], group)
                    parameter.grad = gradients[parameter]

    def _update_matrix(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"].lerp_(gradient, 1 - self.momentum)
        update = orthogonalize(gradient.lerp(momentum, self.momentum))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * 0.2 * max(parameter.shape) ** 0.5)


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return the matrix with singular values between about 0.7 and 1.2, in its type; products are in bf16."""
    tall = len(matrix) > matrix.shape[1]
    one = (matrix.t() if tall else matrix).bfloat16()
    one = one / one.norm().clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = one @ one.t()
        one = torch.addmm(one, torch.addmm(square, square, square, beta=b, alpha=c), one, beta=a)
    return (one.t() if tall else one).to(matrix.dtype)
