"""Differentiable operations that the layers are made of, each with a backward pass that does no more than it must.

Letters: T tokens, I and O features going in and out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary
from transformers.pytorch_utils import Conv1D

from vertebra.engine.dropout import keep_mask
from vertebra.engine.products import gelu_product, product


class Layer(Protocol):
    """A linear layer: torch stores its weight as (O, I), GPT-2's `Conv1D` as (I, O)."""

    @property
    def weight(self) -> Tensor:
        """Return the weight."""

    @property
    def bias(self) -> Tensor | None:
        """Return the bias (O,), if there is one."""


_SLOPE = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715
_BLOCK = 3 << 15
"""Values that are worked on at once; a core's cache holds some copies of them."""


def linear(x_TI: Tensor, layer: Layer, dtype: torch.dtype) -> Tensor:
    """Return the layer's output (T, O), multiplied in `dtype`; gradients have the parameters' own types."""
    out_TO: Tensor = _Linear.apply(x_TI.to(dtype), layer.weight, layer.bias, isinstance(layer, Conv1D))  # type: ignore[no-untyped-call]
    return out_TO


class _Linear(torch.autograd.Function):
    """As under autocast, without its bookkeeping: parameters are cast, and their gradients cast back, once.

    A weight's gradient is laid out as the weight is, or autograd would copy it once more.
    """

    @staticmethod
    def forward(ctx: Any, x_TI: Tensor, weight: Tensor, bias_O: Tensor | None, inputs_first: bool) -> Tensor:
        cast = _cast(weight, x_TI.dtype)
        cast_IO = cast if inputs_first else cast.T
        ctx.save_for_backward(x_TI, cast_IO)
        ctx.types, ctx.inputs_first = (weight.dtype, None if bias_O is None else bias_O.dtype), inputs_first
        return product(x_TI, cast_IO, None if bias_O is None else bias_O.to(x_TI.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TO: Tensor) -> tuple[Tensor | None, ...]:
        x_TI, cast_IO = ctx.saved_tensors
        for_x, for_weight, for_bias, _ = ctx.needs_input_grad
        weight_type, bias_type = ctx.types
        for_x_TI = product(gradient_TO, cast_IO.T) if for_x else None
        for_weights = None
        if for_weight:
            both = (x_TI.T, gradient_TO) if ctx.inputs_first else (gradient_TO.T, x_TI)
            for_weights = product(*both).to(weight_type)
        return for_x_TI, for_weights, gradient_TO.sum(0).to(bias_type) if for_bias else None, None


_KEPT: list[MutableMapping[Tensor, tuple[object, Tensor]]] = []
"""In a training, for each weight that it leaves alone: how it lay in memory, and its cast."""


@contextmanager
def frozen_weights_cast_once() -> Iterator[None]:
    """Cast a weight that is not trained once in all passes, as long as the context lasts: nobody may change it meanwhile."""
    _KEPT.append(WeakTensorKeyDictionary())
    try:
        yield
    finally:
        _KEPT.pop()


def _cast(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a weight in another type."""
    if weight.dtype == dtype or weight.requires_grad or not _KEPT or torch.is_inference_mode_enabled():
        return weight.to(dtype)
    state = weight.data_ptr(), weight.stride(), weight._version, dtype
    kept = _KEPT[-1].get(weight)
    if kept is None or kept[0] != state:
        kept = _KEPT[-1][weight] = state, weight.detach().to(dtype)
    return kept[1]


def add_low_rank(out_TO: Tensor, x_TI: Tensor, down_RI: Tensor, up_OR: Tensor, scale: float) -> Tensor:
    """Return `out + scale · x · downᵀ · upᵀ` in the memory of `out`, multiplied in its type."""
    added_TO: Tensor = _AddLowRank.apply(out_TO, x_TI.to(out_TO.dtype), down_RI, up_OR, scale)  # type: ignore[no-untyped-call]
    return added_TO


class _AddLowRank(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, out_TO: Tensor, x_TI: Tensor, down_RI: Tensor, up_OR: Tensor, scale: float) -> Tensor:
        cast_RI, cast_OR = down_RI.to(x_TI.dtype), up_OR.to(x_TI.dtype)
        inner_TR = product(x_TI, cast_RI.T).mul_(scale)  # scaled where it is narrow
        ctx.save_for_backward(x_TI, inner_TR, cast_RI, cast_OR)
        ctx.scale, ctx.types = scale, (down_RI.dtype, up_OR.dtype)
        ctx.mark_dirty(out_TO)
        return out_TO.addmm_(inner_TR, cast_OR.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TO: Tensor) -> tuple[Tensor | None, ...]:
        x_TI, inner_TR, cast_RI, cast_OR = ctx.saved_tensors
        for_inner_TR = product(gradient_TO, cast_OR).mul_(ctx.scale)
        for_x_TI = product(for_inner_TR, cast_RI) if ctx.needs_input_grad[1] else None
        for_down_RI = product(for_inner_TR.T, x_TI).to(ctx.types[0])
        for_up_OR = product(gradient_TO.T, inner_TR).to(ctx.types[1])
        return gradient_TO, for_x_TI, for_down_RI, for_up_OR, None


def gelu(x_TO: Tensor) -> Tensor:
    """Return GELU in its tanh form (Hendrycks and Gimpel, 2016), computed in fp32.

    As 1/2 (1 + tanh u) is the logistic function of 2u, which costs a fifth of the tanh.
    """
    out_TO: Tensor = _Gelu.apply(x_TO)  # type: ignore[no-untyped-call]
    return out_TO


@torch.no_grad()
def gelu_linear(x_TI: Tensor, layer: Layer, dtype: torch.dtype) -> Tensor:
    """Return GELU of the layer's output (T, O) where nothing is recorded, multiplied in `dtype`."""
    weight, bias_O = _cast(layer.weight, dtype), layer.bias
    weight_IO = weight if isinstance(layer, Conv1D) else weight.T
    return gelu_product(x_TI.to(dtype), weight_IO, None if bias_O is None else bias_O.to(dtype))


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TO: Tensor) -> Tensor:
        out_TO, gate_TO = torch.empty_like(x_TO), torch.empty_like(x_TO)
        for rows, out, gate in _in_blocks(x_TO, out_TO, gate_TO):
            x = rows.float()
            opened = (x * x).mul_(_SLOPE * _CUBIC).add_(_SLOPE).mul_(x).sigmoid_()
            gate.copy_(opened)
            out.copy_(opened.mul_(x))
        ctx.save_for_backward(x_TO, gate_TO)
        return out_TO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TO: Tensor) -> Tensor:
        out_TO = torch.empty_like(gradient_TO)
        for rows, gate, gradient, out in _in_blocks(*ctx.saved_tensors, gradient_TO, out_TO):
            x, opened = rows.float(), gate.float()
            slope = (x * x).mul_(3 * _SLOPE * _CUBIC).add_(_SLOPE)
            # x · gate · (1 - gate), in one pass
            derivative = torch.ops.aten.sigmoid_backward(x, opened).mul_(slope).add_(opened)
            out.copy_(derivative.mul_(gradient))
        return out_TO


def _in_blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the same few rows of each tensor, so that what is computed of them stays in the processor's cache."""
    rows = max(1, _BLOCK // tensors[0].shape[1])
    return zip(*(torch.split(tensor, rows) for tensor in tensors), strict=True)


def drop(x_TD: Tensor, dropout: float) -> Tensor:
    """Return dropout(x)."""
    return x_TD * keep_mask(x_TD, dropout) if dropout else x_TD


def add_dropped(residual_TD: Tensor, branch_TD: Tensor, dropout: float) -> Tensor:
    """Return `residual + dropout(branch)` in the residual's type."""
    if not dropout:
        return residual_TD + branch_TD
    out_TD: Tensor = _AddDropped.apply(residual_TD, branch_TD, dropout)  # type: ignore[no-untyped-call]
    return out_TD


class _AddDropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, residual_TD: Tensor, branch_TD: Tensor, dropout: float) -> Tensor:
        kept_TD = keep_mask(residual_TD, dropout)
        ctx.save_for_backward(kept_TD)
        ctx.dtype = branch_TD.dtype
        return torch.addcmul(residual_TD, branch_TD.to(residual_TD.dtype), kept_TD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TD: Tensor) -> tuple[Tensor, Tensor, None]:
        (kept_TD,) = ctx.saved_tensors
        return gradient_TD, (gradient_TD * kept_TD).to(ctx.dtype), None


def layer_norm(x_TD: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Return a layer's norm of `x` in the type of `x`."""
    return F.layer_norm(x_TD, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def rms_norm(x: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
    """Return `x` (…, D) divided by its root mean square and scaled (Zhang and Sennrich, 2019), computed in fp32."""
    out: Tensor = _RMSNorm.apply(x, weight_D, epsilon)  # type: ignore[no-untyped-call]
    return out


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        full = x.float()
        inverse = full.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        ctx.save_for_backward(full, inverse, weight_D)
        ctx.dtype = x.dtype
        return (full * inverse).mul_(weight_D).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        full, inverse, weight_D = ctx.saved_tensors
        normed = full * inverse
        along = gradient.float() * weight_D
        mean = (along * normed).mean(-1, keepdim=True)
        for_weight_D = None
        if ctx.needs_input_grad[1]:
            for_weight_D = (gradient * normed).flatten(0, -2).sum(0).to(weight_D.dtype)
        return torch.addcmul(along, normed, mean, value=-1).mul_(inverse).to(ctx.dtype), for_weight_D, None


def gated_silu(gate_TO: Tensor, up_TO: Tensor) -> Tensor:
    """Return `silu(gate) · up` (SwiGLU; Shazeer, 2020), computed in fp32."""
    out_TO: Tensor = _GatedSilu.apply(gate_TO, up_TO)  # type: ignore[no-untyped-call]
    return out_TO


class _GatedSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_TO: Tensor, up_TO: Tensor) -> Tensor:
        ctx.save_for_backward(gate_TO, up_TO)
        gate = gate_TO.float()
        return gate.sigmoid().mul_(gate).mul_(up_TO).to(gate_TO.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TO: Tensor) -> tuple[Tensor, Tensor]:
        gate_TO, up_TO = ctx.saved_tensors
        gate, gradient = gate_TO.float(), gradient_TO.float()
        open_ = gate.sigmoid()
        # gate · σ(1 - σ), in one pass
        slope = torch.ops.aten.sigmoid_backward(gate, open_).add_(open_)
        for_gate = slope.mul_(gradient).mul_(up_TO)
        return for_gate.to(gate_TO.dtype), open_.mul_(gate).mul_(gradient).to(up_TO.dtype)


def rotate(x_THd: Tensor, cos_Td: Tensor, sin_Td: Tensor) -> Tensor:
    """Return `x` with the halves of each head turned by the angle of its place (RoPE; Su and others, 2021)."""
    out_THd: Tensor = _Rotate.apply(x_THd, cos_Td, sin_Td)  # type: ignore[no-untyped-call]
    return out_THd


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_THd: Tensor, cos_Td: Tensor, sin_Td: Tensor) -> Tensor:
        ctx.save_for_backward(cos_Td, sin_Td)
        ctx.dtype = x_THd.dtype
        return _rotated(x_THd.float(), cos_Td, sin_Td)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_THd: Tensor) -> tuple[Tensor, None, None]:
        cos_Td, sin_Td = ctx.saved_tensors
        return _rotated(gradient_THd, cos_Td, -sin_Td).to(ctx.dtype), None, None


def _rotated(x_THd: Tensor, cos_Td: Tensor, sin_Td: Tensor) -> Tensor:
    first, second = x_THd.chunk(2, dim=-1)
    return torch.addcmul(x_THd * cos_Td[:, None], torch.cat((-second, first), dim=-1), sin_Td[:, None])
