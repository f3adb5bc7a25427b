"""The loss of a language model without the matrix of its logits.

Positions times vocabulary are the largest matrix of a training step, and only its gradient's products are needed. Some rows
of it at a time are made, used and forgotten, gradients included: the loss is a mean, so that its gradient with respect to
states and weights is known, but for one factor, when the rows are there (as in Hsu et al. 2024, arXiv:2410.10989).

Letters: P positions, D hidden width, V vocabulary, C positions of a chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_BYTES = {"cpu": 1 << 24, "cuda": 1 << 28}
"""Of the logits that exist at once: on a CPU they stay near its caches, a GPU wants larger products. Measured on CPU."""


def linear_cross_entropy(
    hidden_PD: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    targets_P: Tensor,
    smoothing: float = 0.0,
    chunk: int | None = None,
) -> Tensor:
    """Return the mean cross-entropy of `hidden · weightᵀ + bias` with the targets, a scalar in fp32.

    `smoothing` is the share of each target that is spread over the vocabulary (Szegedy et al. 2016, arXiv:1512.00567).
    `chunk` positions are computed at once, by default as many as suit the device. Products are in the type of the
    weights, or of autocast; sums are in fp32. There is no second derivative.
    """
    device = hidden_PD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VD.dtype
    chunk = chunk or max(1, CHUNK_BYTES.get(device, 1 << 24) // (4 * len(weight_VD)))
    with torch.autocast(device, enabled=False):
        bias = None if bias_V is None else bias_V.to(dtype)
        loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
            hidden_PD.to(dtype), weight_VD.to(dtype), bias, targets_P, smoothing, chunk, torch.is_grad_enabled()
        )
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_PD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_P: Tensor,
        smoothing: float,
        chunk: int,
        with_gradients: bool,
    ) -> Tensor:
        wanted = [with_gradients and one for one in ctx.needs_input_grad[:3]]
        gradients = (
            torch.empty_like(hidden_PD) if wanted[0] else None,
            torch.zeros_like(weight_VD, dtype=torch.float32) if wanted[1] else None,
            torch.zeros_like(bias_V, dtype=torch.float32) if wanted[2] and bias_V is not None else None,
        )
        total = hidden_PD.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden_PD), chunk):
            place = slice(start, start + chunk)
            hidden_CD, targets_C1 = hidden_PD[place], targets_P[place, None]
            logits_CV = (hidden_CD @ weight_VD.t()).float()
            if bias_V is not None:
                logits_CV += bias_V
            sum_C1 = logits_CV.logsumexp(dim=1, keepdim=True)
            likely = (1 - smoothing) * logits_CV.gather(1, targets_C1)
            if smoothing:
                likely = likely + smoothing * logits_CV.mean(dim=1, keepdim=True)
            total += (sum_C1 - likely).sum()
            if any(wanted):
                # The gradient by the logits: what the model believes less what it should.
                errors_CV = logits_CV.sub_(sum_C1).exp_()
                if smoothing:
                    errors_CV -= smoothing / len(weight_VD)
                errors_CV.scatter_add_(1, targets_C1, errors_CV.new_full(targets_C1.shape, smoothing - 1))
                _add_gradients(gradients, place, errors_CV, hidden_CD, weight_VD)
        count = max(1, len(hidden_PD))
        ctx.save_for_backward(*(None if one is None else one.div_(count) for one in gradients))
        ctx.dtypes = (hidden_PD.dtype, weight_VD.dtype, None if bias_V is None else bias_V.dtype)
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [
            None if one is None else (one * upstream).to(dtype)
            for one, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*scaled, None, None, None, None)


def _add_gradients(
    gradients: tuple[Tensor | None, Tensor | None, Tensor | None],
    place: slice,
    errors_CV: Tensor,
    hidden_CD: Tensor,
    weight_VD: Tensor,
) -> None:
    by_hidden_PD, by_weight_VD, by_bias_V = gradients
    errors = errors_CV.to(weight_VD.dtype)
    if by_hidden_PD is not None:
        by_hidden_PD[place] = errors @ weight_VD
    if by_weight_VD is not None and by_weight_VD.dtype == errors.dtype:
        by_weight_VD.addmm_(errors.t(), hidden_CD)
    elif by_weight_VD is not None:
        by_weight_VD += errors.t() @ hidden_CD
    if by_bias_V is not None:
        by_bias_V += errors_CV.sum(dim=0)


@torch.no_grad()
def token_losses(
    hidden_PD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_P: Tensor, chunk: int | None = None
) -> Tensor:
    """Return (P, 2) in fp32: the cross-entropy of each target in nats, and 1 where it is the likeliest token, else 0."""
    device = hidden_PD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VD.dtype
    chunk = chunk or max(1, CHUNK_BYTES.get(device, 1 << 24) // (4 * len(weight_VD)))
    out_P2 = torch.empty(len(hidden_PD), 2, device=hidden_PD.device)
    with torch.autocast(device, enabled=False):
        transposed_DV = weight_VD.to(dtype).t()
        for start in range(0, len(hidden_PD), chunk):
            targets_C = targets_P[start : start + chunk]
            logits_CV = (hidden_PD[start : start + chunk].to(dtype) @ transposed_DV).float()
            if bias_V is not None:
                logits_CV += bias_V
            likely_C = logits_CV.gather(1, targets_C[:, None])[:, 0]
            out_P2[start : start + chunk, 0] = logits_CV.logsumexp(dim=1) - likely_C
            out_P2[start : start + chunk, 1] = likely_C == logits_CV.amax(dim=1)
    return out_P2
