"""The norm of all gradients, and its limit."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """Scale all gradients so that their norm, of which the one before is returned, is at most `limit`.

    A sparse gradient, whose rows may stand there more than once, is summed up.
    """
    values = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
        if parameter.grad is not None:
            values.append(parameter.grad.values() if parameter.grad.is_sparse else parameter.grad)
    norm = torch.nn.utils.get_total_norm(values)
    if limit is not None:
        torch._foreach_mul_(values, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm
