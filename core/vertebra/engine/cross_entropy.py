"""The loss of a language model without the matrix of its logits.

Positions times vocabulary are the largest matrix of a training step, and only its gradient's products are needed. Some rows
of it at a time are made, used and forgotten, gradients included: the loss is a mean, so that its gradient with respect to
states and weights is known, but for one factor, when the rows are there (as in Hsu et al. 2024, arXiv:2410.10989).

Letters: P positions, D hidden width, V vocabulary, C positions of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from vertebra.engine.products import add_product, product

CHUNK_BYTES = {"cpu": 1 << 24, "cuda": 1 << 28}
"""Of the logits that exist at once: on a CPU they stay near its caches, a GPU wants larger products. Measured on CPU."""

ROWS = 16
"""A chunk's rows are rounded up to a multiple of this: oneDNN keeps a program for each size that it meets."""


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
        loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
            hidden_PD, weight_VD, bias_V, targets_P, smoothing, chunk, dtype, torch.is_grad_enabled()
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
        dtype: torch.dtype,
        with_gradients: bool,
    ) -> Tensor:
        ctx.dtypes = (hidden_PD.dtype, weight_VD.dtype, None if bias_V is None else bias_V.dtype)
        gradients = _Gradients([with_gradients and one for one in ctx.needs_input_grad[:3]])
        weight_VD = weight_VD.to(dtype)
        total = hidden_PD.new_zeros((), dtype=torch.float32)
        for start in range(0, len(hidden_PD), chunk):
            hidden_CD = hidden_PD[start : start + chunk].to(dtype)
            targets_C1 = targets_P[start : start + chunk, None]
            if missing := -len(hidden_CD) % ROWS:
                hidden_CD, targets_C1 = (F.pad(one, (0, 0, 0, missing)) for one in (hidden_CD, targets_C1))
            real = slice(len(hidden_CD) - missing)
            logits_CV = product(hidden_CD, weight_VD.t()).float()
            if bias_V is not None:
                logits_CV += bias_V
            likely = (1 - smoothing) * logits_CV.gather(1, targets_C1)
            if smoothing:
                likely = likely + smoothing * logits_CV.mean(dim=1, keepdim=True)
            largest = logits_CV.amax(dim=1, keepdim=True)
            weights_CV = logits_CV.sub_(largest).exp_()  # in place: the memory of the logits is all there is
            sums = weights_CV.sum(dim=1, keepdim=True)
            total += (sums.log() + largest - likely)[real].sum()
            if any(gradients.wanted):
                # The gradient by the logits: what the model believes less what it should.
                errors_CV = weights_CV.div_(sums)
                if smoothing:
                    errors_CV -= smoothing / len(weight_VD)
                errors_CV.scatter_add_(1, targets_C1, errors_CV.new_full(targets_C1.shape, smoothing - 1))
                errors_CV[real.stop :] = 0
                gradients.add(errors_CV, hidden_CD, weight_VD, real)
        count = max(1, len(hidden_PD))
        ctx.save_for_backward(*gradients.divided_by(count))
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [
            None if one is None else (one * upstream).to(dtype)
            for one, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*scaled, None, None, None, None, None)


class _Gradients:
    """The gradients by hidden states, weights and bias, as far as they are wanted, in fp32."""

    def __init__(self, wanted: Sequence[bool]) -> None:
        self.wanted = wanted
        self._hidden: list[Tensor] = []
        self._weight: Tensor | None = None
        self._bias: Tensor | None = None

    def add(self, errors_CV: Tensor, hidden_CD: Tensor, weight_VD: Tensor, real: slice) -> None:
        """Take in a chunk, of which only the real rows have a hidden state to say a gradient of."""
        errors = errors_CV.to(weight_VD.dtype)
        if self.wanted[0]:
            self._hidden.append(product(errors, weight_VD)[real])
        if self.wanted[1] and self._weight is None:
            self._weight = product(errors.t(), hidden_CD).float()
        elif self.wanted[1] and self._weight is not None:
            add_product(self._weight, errors.t(), hidden_CD)
        if self.wanted[2]:
            sums_V = errors_CV.sum(dim=0)
            self._bias = sums_V if self._bias is None else self._bias + sums_V

    def divided_by(self, count: int) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the three, each None where it is not wanted."""
        hidden = torch.cat(self._hidden).float() if self._hidden else None
        three = (hidden, self._weight, self._bias)
        return tuple(None if one is None else one.div_(count) for one in three)  # type: ignore[return-value]


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
            rows_CD = F.pad(hidden_PD[start : start + chunk].to(dtype), (0, 0, 0, -len(targets_C) % ROWS))
            logits_CV = product(rows_CD, transposed_DV)[: len(targets_C)].float()
            if bias_V is not None:
                logits_CV += bias_V
            likely_C = logits_CV.gather(1, targets_C[:, None])[:, 0]
            out_P2[start : start + chunk, 0] = logits_CV.logsumexp(dim=1) - likely_C
            out_P2[start : start + chunk, 1] = likely_C == logits_CV.amax(dim=1)
    return out_P2
