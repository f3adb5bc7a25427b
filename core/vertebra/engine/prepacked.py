"""Weights that oneDNN has laid out once for its kernels, which on the CPU multiply up to twice as fast.

The operators are private to torch, so they are tried before they are used.

Letters: T rows, I and O features going in and out.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 32
"""The number of rows that the layout is chosen for; it does as well for others from 1 to 500."""


def prepack(weight_OI: Tensor) -> Tensor:
    """Return a weight in oneDNN's layout; later changes of the weight are not seen there."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach().contiguous(), ROWS)
    return packed


def linear(x_TI: Tensor, packed: Tensor, bias_O: Tensor | None) -> Tensor:
    """Return `x · weightᵀ + bias` (T, O)."""
    out_TO: Tensor = torch.ops.mkldnn._linear_pointwise(x_TI, packed, _dense(bias_O), "none", [], "")
    return out_TO


def gelu_linear(x_TI: Tensor, packed: Tensor, bias_O: Tensor | None) -> Tensor:
    """Return GELU, in its tanh form, of `x · weightᵀ + bias` (T, O), computed while the output is still at hand."""
    out_TO: Tensor = torch.ops.mkldnn._linear_pointwise(x_TI, packed, _dense(bias_O), "gelu", [], "tanh")
    return out_TO


def _dense(bias_O: Tensor | None) -> Tensor | None:
    """Return a bias as the operators read it, whatever its strides say: value after value."""
    return None if bias_O is None else bias_O.contiguous()


@lru_cache
@torch.no_grad()
def can_prepack(dtype: torch.dtype) -> bool:
    """Whether the private operators are there and give what plain ones give."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=generator).to(dtype) for shape in ((3, 40), (50, 40), (50,)))
    plain = F.linear(x, weight, bias)
    try:
        packed = prepack(weight)
        found, activated = linear(x, packed, bias), gelu_linear(x, packed, bias)
    except (AttributeError, RuntimeError, TypeError):
        return False
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    expected = F.gelu(plain, approximate="tanh")
    return torch.allclose(found, plain, atol=tolerance) and torch.allclose(activated, expected, atol=tolerance)
