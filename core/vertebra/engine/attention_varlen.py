"""Packed attention on a GPU in one kernel: torch's `varlen_attn` (FlashAttention-2; Dao, 2023).

The kernel computes in fp16 and bf16, without attention dropout. What else it takes changed from torch 2.10 to 2.12, so its
signature is read, and whether it holds for a model's heads on this GPU is tried before it is used.

Letters: T tokens in the packed stream, H query heads, G key-value heads, d head width.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from transformers import PretrainedConfig

from vertebra.engine.attention_options import Options
from vertebra.engine.packing import PackedBatch
from vertebra.engine.token_budget import is_out_of_memory

Kernel = Callable[..., Any]

DEVICES = ("cuda",)
DTYPES = (torch.float16, torch.bfloat16)
DROPOUTS = ("attention_dropout", "attn_pdrop")
"""What families call the share of attention weights that they drop in training."""


@dataclass(frozen=True)
class Request:
    """What a layer asks of the kernel; whether it is computed right depends on nothing else."""

    heads: int
    key_value_heads: int
    width: int
    scaling: float | None
    causal: bool
    window: int | None
    dtype: torch.dtype
    device: torch.device


def attend_varlen(
    query_1HTd: Tensor,
    key_1GTd: Tensor,
    value_1GTd: Tensor,
    packed: PackedBatch,
    options: Options,
) -> Tensor | None:
    """Return the attention within each sequence of the stream, (1, T, H, d).

    None where the kernel does not compute it: off the GPU, in fp32, with attention dropout, before torch 2.10, or where it
    failed when it was tried. The windows are those of transformers: causal, the last `window` tokens, itself included;
    bidirectional, `window` tokens to either side.
    """
    if query_1HTd.device.type not in DEVICES or options.dropout > 0:
        return None
    dtype, kernel = _compute_dtype(query_1HTd), find_kernel()
    if dtype not in DTYPES or kernel is None or value_1GTd.shape != key_1GTd.shape:
        return None
    _, heads, _, width = query_1HTd.shape
    window = options.window if options.window is not None and max(packed.lengths) > options.window else None
    asked = Request(heads, key_1GTd.shape[1], width, options.scale, options.causal, window, dtype, query_1HTd.device)
    if not _holds(kernel, asked):
        return None
    query_THd, key_TGd, value_TGd = (
        tensor[0].transpose(0, 1).to(dtype) for tensor in (query_1HTd, key_1GTd, value_1GTd)
    )
    return _call(kernel, asked, query_THd, key_TGd, value_TGd, packed.cu_seqlens, max(packed.lengths)).unsqueeze(0)


def find_kernel() -> Kernel | None:
    """Return the kernel; None before torch 2.10."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    kernel: Kernel = varlen_attn
    return kernel


def why_not(config: PretrainedConfig, dtype: torch.dtype) -> str | None:
    """Return one line that says why a model on a GPU, computing in `dtype`, does without the kernel; None if it does not."""
    slower = "attention lays sequences out with padding, which is slower"
    if dtype not in DTYPES:
        return f"{slower}: the varlen kernel computes in bf16 and fp16 alone (gpu.precision=bf16)"
    if find_kernel() is None:
        return f"{slower}: torch {torch.__version__} has no varlen kernel (2.10 has)"
    for name in DROPOUTS:
        if getattr(config, name, None):
            return (
                f"in training {slower}: the varlen kernel has no dropout (backbone.config={{{name}: 0}} does without)"
            )
    return None


def keywords(kernel: Kernel, asked: Request) -> dict[str, Any] | None:
    """Return the keyword arguments by which this version of the kernel computes `asked`; None where it cannot.

    torch 2.10 has `is_causal` alone; 2.11 has `scale` and, in its place, `window_size`; 2.12 adds `enable_gqa`.
    """
    accepted = _accepted(kernel)
    chosen: dict[str, Any] = {}
    if "window_size" in accepted:
        chosen["window_size"] = _window_size(asked.causal, asked.window)
    elif asked.window is None:
        chosen["is_causal"] = asked.causal
    else:
        return None
    if asked.scaling is not None and not math.isclose(asked.scaling, asked.width**-0.5):
        if "scale" not in accepted:
            return None
        chosen["scale"] = asked.scaling
    if asked.heads != asked.key_value_heads and "enable_gqa" in accepted:
        chosen["enable_gqa"] = True
    return chosen


@lru_cache
def _accepted(kernel: Kernel) -> frozenset[str]:
    return frozenset(inspect.signature(kernel).parameters)


def _window_size(causal: bool, window: int | None) -> tuple[int, int]:
    """Return how many tokens are seen to the left and to the right of a token; -1 is all of them."""
    if window is None:
        return (-1, 0) if causal else (-1, -1)
    return (window - 1, 0) if causal else (window, window)


def _compute_dtype(query: Tensor) -> torch.dtype:
    """Return what autocast would compute attention in; of `varlen_attn` it does not know."""
    kind = query.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype


def _call(
    kernel: Kernel,
    asked: Request,
    query_THd: Tensor,
    key_TGd: Tensor,
    value_TGd: Tensor,
    starts: Tensor,
    longest: int,
) -> Tensor:
    chosen = keywords(kernel, asked)
    assert chosen is not None
    if asked.heads != asked.key_value_heads and "enable_gqa" not in chosen:
        shared = asked.heads // asked.key_value_heads
        key_TGd, value_TGd = (tensor.repeat_interleave(shared, dim=1) for tensor in (key_TGd, value_TGd))
    out_THd: Tensor = kernel(query_THd, key_TGd, value_TGd, starts, starts, longest, longest, **chosen)
    return out_THd


# --- is it right?


@lru_cache(maxsize=256)
def _holds(kernel: Kernel, asked: Request) -> bool:
    """Whether the kernel gives what plain attention gives, gradients included; where not, say so once."""
    if keywords(kernel, asked) is None:
        return False
    try:
        right = _equals_plain(kernel, asked)
        reason = "its numbers are not those of plain attention"
    except (RuntimeError, ValueError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        right, reason = False, str(error).partition("\n")[0]
    if not right:
        warnings.warn(
            f"Attention lays sequences out with padding, which is slower: the varlen kernel of torch {torch.__version__} "
            f"does not hold for {asked.heads} heads of width {asked.width} here ({reason}).",
            stacklevel=2,
        )
    return right


@torch.inference_mode(False)
@torch.enable_grad()
def _equals_plain(kernel: Kernel, asked: Request) -> bool:
    """Compare outputs and gradients on three short sequences with one masked SDPA over all of them."""
    lengths = (11, 6, 1)
    asked = replace(asked, window=None if asked.window is None else min(asked.window, 4))
    starts = torch.tensor([0, 11, 17, 18], dtype=torch.int32, device=asked.device)
    query, key, value = (
        _noise((sum(lengths), heads, asked.width), number, asked)
        for number, heads in enumerate((asked.heads, asked.key_value_heads, asked.key_value_heads))
    )
    # Gradient checkpointing would compute the layer anew, and so try the kernel anew, for what is saved here.
    with torch.autocast(asked.device.type, enabled=False), saved_tensors_hooks(lambda one: one, lambda one: one):
        out = _call(kernel, asked, query, key, value, starts, max(lengths))
        found = _with_gradients(out, [query, key, value])
        query, key, value = (one.detach().float().requires_grad_() for one in (query, key, value))
        out = _plain(query, key, value, _mask(lengths, asked), asked.scaling)
        expected = _with_gradients(out, [query, key, value])
    differences = [(one.float() - other).abs().max() for one, other in zip(found, expected, strict=True)]
    sizes = [other.abs().max().clamp(min=1.0) for other in expected]
    return all(bool(difference <= 3e-2 * size) for difference, size in zip(differences, sizes, strict=True))


def _noise(shape: tuple[int, int, int], seed: int, asked: Request) -> Tensor:
    """Return random numbers without touching torch's own random state."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.to(asked.device, asked.dtype).requires_grad_()


def _with_gradients(out_THd: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weights_d = torch.linspace(-1, 1, out_THd.shape[-1], device=out_THd.device)
    return [out_THd.detach(), *torch.autograd.grad((out_THd * weights_d).sum(), inputs)]


def _plain(query_THd: Tensor, key_TGd: Tensor, value_TGd: Tensor, mask_TT: Tensor, scaling: float | None) -> Tensor:
    query_HTd, key_GTd, value_GTd = (tensor.transpose(0, 1) for tensor in (query_THd, key_TGd, value_TGd))
    grouped = query_HTd.shape[0] != key_GTd.shape[0]
    out_HTd = F.scaled_dot_product_attention(
        query_HTd[None], key_GTd[None], value_GTd[None], attn_mask=mask_TT, scale=scaling, enable_gqa=grouped
    )[0]
    return out_HTd.transpose(0, 1)


def _mask(lengths: tuple[int, ...], asked: Request) -> Tensor:
    """Return (T, T), true where a token sees another one."""
    owner_T = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    place_T = torch.arange(len(owner_T))
    distance_TT = place_T[:, None] - place_T[None, :]
    left, right = _window_size(asked.causal, asked.window)
    seen_TT = owner_T[:, None] == owner_T[None, :]
    if left >= 0:
        seen_TT &= distance_TT <= left
    if right >= 0:
        seen_TT &= distance_TT >= -right
    return seen_TT.to(asked.device)
