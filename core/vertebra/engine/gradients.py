"""Gradients of a step: their sum over processes, their norm, and its limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn


def add_up_gradients(parameters: Sequence[nn.Parameter], accelerator: Accelerator) -> None:
    """Give each parameter the sum of its gradients over all processes; every process must come here with the same ones.

    It is done once a step, so that processes with unequal numbers of pieces never wait. A parameter that must have no
    gradient in this step, as in one process, is not to be among them: here it would get zeros.
    """
    flat = torch.cat(
        [
            (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).flatten()
            for parameter in parameters
        ]
    )
    flat = accelerator.reduce(flat, "sum")
    for parameter, gradient in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = gradient.view_as(parameter)


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
