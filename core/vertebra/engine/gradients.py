"""The norm of all gradients, and its limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


def clip_each(groups: Sequence[Iterable[nn.Parameter]], limit: float | None) -> Tensor:
    """Do what `clip_gradients` does for each group by itself; return the norm of all gradients before that.

    A group without a gradient is passed over; one has some.
    """
    norms = [clip_gradients(some, limit) for some in map(list, groups) if any(one.grad is not None for one in some)]
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
