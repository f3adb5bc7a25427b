"""Attention over a packed stream: every sequence sees itself alone.

Registered once with transformers under the name `vertebra_packed`, so that models run with their own modules untouched.
The batch arrives as the keyword argument `packed`, which models hand through to their attention layers.

Letters: T tokens in the stream, R places in its groups' rectangles, n sequences of a group, L tokens of its longest, H query
heads, G key-value heads, d their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface

from vertebra.engine.attention_blocks import LENGTHS, attend_in_blocks
from vertebra.engine.attention_options import Options, reach
from vertebra.engine.attention_products import attend_by_products
from vertebra.engine.attention_rectangle import attend_in_rectangle
from vertebra.engine.attention_varlen import attend_varlen
from vertebra.engine.generation.stream import CachedStream
from vertebra.engine.groups import Group
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
    causal: bool | tuple[bool, ...] = True,
    sliding_window: int | None = None,
    **other: Any,
) -> tuple[Tensor, None]:
    """Attend within each sequence of the stream, as transformers calls it.

    `query` is (1, H, T, d), `key` and `value` (1, G, T, d) with G key-value heads; the result is (1, T, H, d). `causal`
    may say it for each layer.
    """
    if packed is None:
        raise UnsupportedAttentionError(
            f"{type(module).__name__} does not hand keyword arguments through to its attention"
        )
    for name in ("softcap", "s_aux", "position_bias"):
        if other.get(name) is not None:
            raise UnsupportedAttentionError(f"{type(module).__name__} uses '{name}'")
    layer = cast(int, module.layer_idx)
    query_THd, key_TGd, value_TGd = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    options = Options(scaling, dropout, causal[layer] if isinstance(causal, tuple) else causal, sliding_window)
    if isinstance(packed, PackedBatch) and packed.causal is None:
        for attend_at_once in (attend_varlen, attend_in_rectangle):
            out = attend_at_once(query, key, value, packed, options)
            if out is not None:
                return out, None
    return attend(query_THd, key_TGd, value_TGd, packed, options, layer).unsqueeze(0), None


def attend(
    query_THd: Tensor,
    key_TGd: Tensor,
    value_TGd: Tensor,
    packed: PackedBatch | CachedStream,
    options: Options,
    layer: int,
) -> Tensor:
    """Return (T, H, d), each token's attention over its own sequence, in the query's type; `layer` is its number."""
    if isinstance(packed, CachedStream):
        return packed.attend(layer, query_THd, key_TGd, value_TGd, options.scale, options.window)
    return _attend([one.unsqueeze(1) for one in (query_THd, key_TGd, value_TGd)], packed, options)


def attend_joined(joined_T3Hd: Tensor, packed: PackedBatch | CachedStream, options: Options, layer: int) -> Tensor:
    """Return (T, H, d), as `attend` does, of query, key and value that stand side by side."""
    if isinstance(packed, CachedStream):
        query_THd, key_THd, value_THd = joined_T3Hd.unbind(1)
        return packed.attend(layer, query_THd, key_THd, value_THd, options.scale, options.window)
    return _attend([joined_T3Hd], packed, options)


def _attend(streams: list[Tensor], packed: PackedBatch, options: Options) -> Tensor:
    """Attend with query, key and value from streams (T, C, heads, d) that hold C of the three each."""
    if torch.is_grad_enabled() and any(stream.requires_grad for stream in streams):
        out_THd: Tensor = _Attention.apply(packed, options, *streams)  # type: ignore[no-untyped-call]
        return out_THd
    groups = packed.groups
    spread = [groups.spread(stream) for stream in streams]
    out_RHd = torch.empty_like(spread[0][:, 0], memory_format=torch.contiguous_format)
    for group in groups.members:
        heads = [part for stream in spread for part in _take(stream, group).unbind(0)]
        _put(out_RHd, group, _attend_group(heads, group, packed, options))
    return groups.collect(out_RHd)


class _Attention(torch.autograd.Function):
    """Attention group by group. Each group has an autograd graph of its own, so that whatever kernel computes it also says
    its gradient; what joins the groups is written into one buffer, forwards and backwards.
    """

    @staticmethod
    def forward(ctx: Any, packed: PackedBatch, options: Options, *streams: Tensor) -> Tensor:
        spread = [packed.groups.spread(stream) for stream in streams]
        out_RHd = torch.empty_like(spread[0][:, 0], memory_format=torch.contiguous_format)
        ctx.groups, ctx.graphs, ctx.options = packed.groups, [], options
        ctx.shapes = [(stream.shape[1:], stream.dtype) for stream in streams]
        for group in packed.groups.members:
            parts = [_laid_out(_take(stream, group), group, options) for stream in spread]
            leaves = [part.detach().requires_grad_() for some in parts for part in some.unbind(0)]
            with torch.enable_grad():
                out_nHLd = _attend_group(leaves, group, packed, options)
            _put(out_RHd, group, out_nHLd.detach())
            ctx.graphs.append((leaves, out_nHLd))
        collected: Tensor = packed.groups.collect(out_RHd)
        return collected

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_THd: Tensor) -> Any:
        spread_RHd = ctx.groups.spread(gradient_THd)
        if ctx.groups.padding is not None:  # what padding attends to counts for nothing
            spread_RHd.index_fill_(0, ctx.groups.padding, 0)
        gradients = [spread_RHd.new_empty((len(spread_RHd), *shape), dtype=dtype) for shape, dtype in ctx.shapes]
        places = [place for gradient in gradients for place in gradient.unbind(1)]
        for group, (leaves, out_nHLd) in zip(ctx.groups.members, ctx.graphs, strict=True):
            part_nHLd = _laid_out(_take(spread_RHd.unsqueeze(1), group), group, options=ctx.options)[0]
            for place, part in zip(
                places, torch.autograd.grad(out_nHLd, leaves, part_nHLd.to(out_nHLd.dtype)), strict=True
            ):
                _put(place, group, part)
        ctx.graphs = None
        return None, None, *(ctx.groups.collect(gradient) for gradient in gradients)


def _take(stream_RCHd: Tensor, group: Group) -> Tensor:
    """Return a group's rectangle of each of the C parts, as (C, n, H, L, d), where they lie in the stream."""
    part_nLCHd = stream_RCHd[group.places].view(group.count, group.longest, *stream_RCHd.shape[1:])
    return part_nLCHd.permute(2, 0, 3, 1, 4)


def _laid_out(parts_CnHLd: Tensor, group: Group, options: Options) -> Tensor:
    """Return the parts as their gradients are computed fastest: short sequences on the CPU in fp32.

    Kernels read heads where they lie, and to lay them out anew costs half as much as they take; plain products need it.
    """
    if parts_CnHLd.device.type != "cpu" or group.longest in LENGTHS:
        return parts_CnHLd
    if not options.dropout:
        return parts_CnHLd.float()
    return torch.empty(parts_CnHLd.shape).copy_(parts_CnHLd)


def _put(place_RHd: Tensor, group: Group, part_nHLd: Tensor) -> None:
    """Write a group's rectangle to its place."""
    rows_nLHd = place_RHd[group.places].unflatten(0, (group.count, group.longest))  # type: ignore[no-untyped-call]
    rows_nLHd.copy_(part_nHLd.transpose(1, 2))


def _attend_group(heads: Sequence[Tensor], group: Group, packed: PackedBatch, options: Options) -> Tensor:
    query_nHLd, key_nGLd, value_nGLd = heads
    causal, mask = _what_is_seen(group, packed, options, query_nHLd.device)
    on_cpu = query_nHLd.device.type == "cpu"
    in_bf16 = on_cpu and any(one.dtype == torch.bfloat16 for one in heads)  # a rotation leaves its heads in fp32
    plain = mask is None and not options.dropout and query_nHLd.shape == key_nGLd.shape
    if in_bf16 and plain and group.longest in LENGTHS:
        return attend_in_blocks(query_nHLd, key_nGLd, value_nGLd, causal, options.scale)
    short = in_bf16 and group.longest < LENGTHS.start
    if on_cpu:
        dtype = torch.bfloat16 if short else torch.float32
        query_nHLd, key_nGLd, value_nGLd = (one.to(dtype) for one in heads)
    if short or (on_cpu and options.dropout):
        shared = query_nHLd.shape[1] // key_nGLd.shape[1]
        if shared > 1:
            key_nGLd, value_nGLd = (one.repeat_interleave(shared, dim=1) for one in (key_nGLd, value_nGLd))
        if causal:
            mask = reach(group.longest, causal, None, query_nHLd.device)
        hidden = None if mask is None else ~mask
        return attend_by_products(query_nHLd, key_nGLd, value_nGLd, hidden, options.scale, options.dropout)
    return F.scaled_dot_product_attention(
        query_nHLd,
        key_nGLd,
        value_nGLd,
        attn_mask=mask,
        dropout_p=options.dropout,
        is_causal=causal,
        scale=options.scale,
        enable_gqa=query_nHLd.shape[1] != key_nGLd.shape[1],
    )


def _what_is_seen(
    group: Group, packed: PackedBatch, options: Options, device: torch.device
) -> tuple[bool, Tensor | None]:
    """Return whether the kernel's own causal mask says all, and else a mask, true where a query may look.

    A causal token sees no padding, which stands behind it. What padding sees is without effect, but must not be nothing.
    """
    causal = {options.causal} if packed.causal is None else set(packed.causal[group.sequences])
    window = options.window if options.window is not None and group.longest > options.window else None
    if causal == {True} and window is None:
        return True, None
    if causal == {False} and window is None:
        return False, None if group.is_padding is None else ~group.is_padding[:, None, None, :]
    seen = {one: reach(group.longest, one, window, device) for one in causal}
    if len(seen) == 1:
        [mask] = seen.values()
    else:
        assert packed.causal is not None
        mask = torch.stack([seen[one] for one in packed.causal[group.sequences]])[:, None]
    if group.is_padding is not None:
        mask = (mask & ~group.is_padding[:, None, None, :]) | group.is_padding[:, None, :, None]
    return False, mask


# The batch says which tokens belong together. No mask function is registered: transformers would look for packed
# sequences in the position ids before it called one, and on a GPU that waits for the device.
AttentionInterface.register(PACKED, packed_attention)
