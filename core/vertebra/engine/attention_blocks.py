"""Attention on a CPU in bf16, for sequences that are long enough for its matrix products to be the work.

torch's kernel for the CPU multiplies in fp32's speed whatever the type is. A few plain batched products, each for a block of
queries and the keys that it may see, run at the rate of bf16; softmax and the sums over blocks are in fp32.

Letters: S sequences times heads, L tokens, d a head's width, B queries of a block, K keys that they may see.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 128
"""Queries. Larger blocks compute more of what a causal mask hides, smaller ones have products too small to be fast."""
LENGTHS = range(192, 1025)
"""Where it is faster than torch's kernel by a measurement; it keeps L² weights for the gradient, so not beyond."""


def attend_in_blocks(
    query_nHLd: Tensor, key_nHLd: Tensor, value_nHLd: Tensor, causal: bool, scale: float | None = None
) -> Tensor:
    """Return (n, H, L, d): attention within each sequence, causal or on all of it, as bf16 has it; no token is padding.

    Scores are multiplied with `scale`, by default 1/√d.
    """
    scale = query_nHLd.shape[-1] ** -0.5 if scale is None else scale
    out_nHLd: Tensor = _Blocks.apply(query_nHLd, key_nHLd, value_nHLd, causal, scale)  # type: ignore[no-untyped-call]
    return out_nHLd


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *heads, causal, scale = arguments
        shape, length = heads[0].shape, heads[0].shape[2]
        query_SLd, key_SLd, value_SLd = (one.bfloat16().flatten(0, 1).contiguous() for one in heads)
        query_SLd = query_SLd * scale
        out_SLd, weights = torch.empty_like(query_SLd), []
        for start in range(0, length, BLOCK):
            block = slice(start, min(start + BLOCK, length))
            seen = slice(0, block.stop if causal else length)
            scores_SBK = query_SLd[:, block] @ key_SLd[:, seen].transpose(1, 2)
            if causal:
                size = block.stop - start
                future_BB = torch.ones(size, size, dtype=torch.bool).triu_(1)
                scores_SBK[:, :, start:].masked_fill_(future_BB, -torch.inf)
            weights_SBK = scores_SBK.float().softmax(dim=-1).bfloat16()
            out_SLd[:, block] = weights_SBK @ value_SLd[:, seen]
            weights.append(weights_SBK)
        ctx.save_for_backward(query_SLd, key_SLd, value_SLd, out_SLd, *weights)
        ctx.scale, ctx.dtypes = scale, [one.dtype for one in heads]
        return out_SLd.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_nHLd: Tensor) -> tuple[Tensor | None, ...]:
        query_SLd, key_SLd, value_SLd, out_SLd, *weights = ctx.saved_tensors
        gradient_SLd = gradient_nHLd.bfloat16().flatten(0, 1).contiguous()
        for_query_SLd = torch.empty_like(query_SLd)
        for_key_SLd, for_value_SLd = (torch.zeros_like(key_SLd, dtype=torch.float32) for _ in "kv")
        for number, weights_SBK in enumerate(weights):
            block = slice(number * BLOCK, number * BLOCK + weights_SBK.shape[1])
            seen = slice(0, weights_SBK.shape[2])
            gradient_SBd = gradient_SLd[:, block]
            for_value_SLd[:, seen] += weights_SBK.transpose(1, 2) @ gradient_SBd
            change_SBK = (gradient_SBd @ value_SLd[:, seen].transpose(1, 2)).float()
            weights_SBK = weights_SBK.float()
            # The gradient of softmax: a weight grows by what its value brings beyond the mean of all.
            mean_SB1 = (gradient_SBd * out_SLd[:, block]).sum(dim=-1, keepdim=True, dtype=torch.float32)
            scores_SBK = change_SBK.sub_(mean_SB1).mul_(weights_SBK).bfloat16()
            for_query_SLd[:, block] = (scores_SBK @ key_SLd[:, seen]).mul_(ctx.scale)
            for_key_SLd[:, seen] += scores_SBK.transpose(1, 2) @ query_SLd[:, block]
        gradients = [
            one.view_as(gradient_nHLd).to(dtype)
            for one, dtype in zip((for_query_SLd, for_key_SLd, for_value_SLd), ctx.dtypes, strict=True)
        ]
        return (*gradients, None, None)
