"""Attention over a packed stream: every sequence sees itself alone.

Registered once with transformers under the name `vertebra_packed`, so that models run with their own modules untouched.
The batch arrives as the keyword argument `packed`, which models hand through to their attention layers.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from vertebra.engine.generation.stream import CachedStream
from vertebra.engine.packing import PackedBatch

PACKED = "vertebra_packed"


class UnsupportedAttentionError(Exception):
    """A layer asks for something that packed attention does not compute; its family runs padded instead."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packed: PackedBatch | CachedStream | None = None,
    causal: bool = True,
    sliding_window: int | None = None,
    **other: Any,
) -> tuple[Tensor, None]:
    """Attend within each sequence of the stream; sequences of equal length are computed together.

    `query` is (1, H, T, d), `key` and `value` (1, G, T, d) with G key-value heads; the result is (1, T, H, d).
    """
    if packed is None:
        raise UnsupportedAttentionError(
            f"{type(module).__name__} does not hand keyword arguments through to its attention"
        )
    for name in ("softcap", "s_aux", "position_bias"):
        if other.get(name) is not None:
            raise UnsupportedAttentionError(f"{type(module).__name__} uses '{name}'")
    if isinstance(packed, CachedStream):
        return packed.attend(cast(int, module.layer_idx), query, key, value, scaling, sliding_window), None
    # bf16 attention kernels for the CPU are several times slower on short sequences than fp32 ones.
    dtype = torch.float32 if query.device.type == "cpu" else query.dtype
    sizes = [length * count for length, count in packed.groups()]
    queries, keys, values = (torch.split(tensor[0].transpose(0, 1).to(dtype), sizes) for tensor in (query, key, value))
    outputs = [
        _equal_lengths(*parts, length, scaling, dropout, causal, sliding_window)
        for parts, (length, _) in zip(zip(queries, keys, values, strict=True), packed.groups(), strict=True)
    ]
    return torch.cat(outputs).to(query.dtype).unsqueeze(0), None


def _equal_lengths(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    length: int,
    scaling: float | None,
    dropout: float,
    causal: bool,
    sliding_window: int | None,
) -> Tensor:
    """Attend within sequences of one `length`: (n·length, heads, d) in, the same out."""
    q, k, v = (tensor.view(-1, length, *tensor.shape[1:]).transpose(1, 2) for tensor in (query, key, value))
    mask = None
    if sliding_window is not None and length > sliding_window:
        mask = _window_mask(length, sliding_window, causal, query.device)
    out = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=causal and mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2).flatten(0, 1)


def _window_mask(length: int, window: int, causal: bool, device: torch.device) -> Tensor:
    """Return (length, length), true where a query may look.

    As in transformers: causal, the last `window` tokens, itself included; bidirectional, `window` tokens to either side.
    """
    place = torch.arange(length, device=device)
    distance = place[:, None] - place[None, :]
    return (distance < window) & (distance >= 0) if causal else distance.abs() <= window


AttentionInterface.register(PACKED, packed_attention)
# The batch says which tokens belong together, so no mask is made.
AttentionMaskInterface.register(PACKED, lambda *_, **__: None)
