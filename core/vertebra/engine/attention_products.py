"""Attention on a CPU by plain batched products, where torch has no good kernel: dropped weights, and short bf16 sequences.

Letters: n sequences, H heads, S sequences times heads, L tokens, d a head's width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vertebra.engine.dropout import keep_mask


def attend_by_products(
    query_nHLd: Tensor,
    key_nHLd: Tensor,
    value_nHLd: Tensor,
    hidden: Tensor | None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Return (n, H, L, d), contiguous, in the heads' type; softmax is in fp32, and so is all that a gradient needs.

    `hidden` is true where a query must not look, and of a shape that fits (n, H, L, L). Scores are multiplied with `scale`, by
    default 1/√d.
    """
    n, heads, length, width = query_nHLd.shape
    scale = width**-0.5 if scale is None else scale
    bias = query_nHLd.new_zeros((1, 1, 1, 1) if hidden is None else (1,) * (4 - hidden.ndim) + tuple(hidden.shape))
    if hidden is not None:
        bias.masked_fill_(hidden, -torch.inf)
    if len(bias) > 1 or bias.shape[1] > 1:
        bias = bias.expand(n, heads, length, length)
    query, key, value = (one.reshape(-1, length, width) for one in (query_nHLd, key_nHLd, value_nHLd))
    out_SLd: Tensor = _Products.apply(query, key, value, bias.flatten(0, 1), scale, dropout)  # type: ignore[no-untyped-call]
    return out_SLd.view(n, heads, length, width)


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query_SLd: Tensor, key_SLd: Tensor, value_SLd: Tensor, bias: Tensor, scale: float, dropout: float
    ) -> Tensor:
        weights_SLL = torch.baddbmm(bias, query_SLd, key_SLd.transpose(1, 2), alpha=scale).float().softmax(dim=-1)
        keep_SLL = keep_mask(weights_SLL, dropout) if dropout else None
        kept_SLL = (weights_SLL if keep_SLL is None else weights_SLL * keep_SLL).to(value_SLd.dtype)
        ctx.save_for_backward(query_SLd, key_SLd, value_SLd, weights_SLL, keep_SLL, kept_SLL)
        ctx.scale = scale
        return kept_SLL @ value_SLd

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_SLd: Tensor) -> tuple[Tensor | None, ...]:
        query_SLd, key_SLd, value_SLd, weights_SLL, keep_SLL, kept_SLL = ctx.saved_tensors
        for_weights_SLL = (gradient_SLd @ value_SLd.transpose(1, 2)).float()
        if keep_SLL is not None:
            for_weights_SLL.mul_(keep_SLL)
        for_scores_SLL = torch._softmax_backward_data(for_weights_SLL, weights_SLL, -1, weights_SLL.dtype)
        for_scores_SLL = for_scores_SLL.mul_(ctx.scale).to(query_SLd.dtype)  # scaled where it is small
        return (
            for_scores_SLL @ key_SLd,
            for_scores_SLL.transpose(1, 2) @ query_SLd,
            kept_SLL.transpose(1, 2) @ gradient_SLd,
            None,
            None,
            None,
        )
