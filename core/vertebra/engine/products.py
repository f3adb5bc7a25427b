"""Products of fp32 matrices on the CPU, by the library that is fast there.

torch multiplies fp32 matrices by MKL, which leaves more than half of an AMD processor's speed: 106 against 240 billion
operations a second on one core of an EPYC (Zen 5, torch 2.13). There oneDNN, which torch brings as well, is used instead. In
bf16 torch uses oneDNN itself.

Letters: T rows, I and O features going in and out.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vertebra.engine import prepacked


def product(x_TI: Tensor, weight_IO: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Return `x · weight + bias` (T, O); only where autograd records nothing, for what oneDNN computes it does not see."""
    if _faster_by_onednn(x_TI):
        return prepacked.linear(x_TI, weight_IO.T, bias_O)
    return x_TI @ weight_IO if bias_O is None else torch.addmm(bias_O, x_TI, weight_IO)


def add_product(sum_TO: Tensor, x_TI: Tensor, weight_IO: Tensor) -> None:
    """Add `x · weight` to an fp32 sum (T, O), in place."""
    if x_TI.dtype == sum_TO.dtype and not _faster_by_onednn(x_TI):
        sum_TO.addmm_(x_TI, weight_IO)
    else:
        sum_TO.add_(product(x_TI, weight_IO))


def gelu_product(x_TI: Tensor, weight_IO: Tensor, bias_O: Tensor | None) -> Tensor:
    """Return GELU, in its tanh form, of `product`, by oneDNN computed while the output is still at hand."""
    in_bf16 = x_TI.dtype == torch.bfloat16 and x_TI.device.type == "cpu" and x_TI.numel()
    if _faster_by_onednn(x_TI) or (in_bf16 and prepacked.can_prepack(torch.bfloat16)):
        return prepacked.gelu_linear(x_TI, weight_IO.T, bias_O)
    return F.gelu(product(x_TI, weight_IO, bias_O), approximate="tanh")


def _faster_by_onednn(x_TI: Tensor) -> bool:
    """Whether oneDNN is to multiply these fp32 rows.

    Only sizes that come again: it makes a program for each, keeps a thousand of them, and each takes half a megabyte. Streams
    are rounded up to such sizes (`engine/backbone.py`), widths are such.
    """
    if x_TI.dtype != torch.float32 or x_TI.device.type != "cpu" or not x_TI.numel():
        return False
    return not any(size % 8 for size in x_TI.shape) and prefers_onednn()


@lru_cache
def prefers_onednn() -> bool:
    """Whether oneDNN is the faster one, by what is known of the processor: a trial could decide otherwise at each start."""
    has_mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return has_mkl and _vendor() == "AuthenticAMD" and prepacked.can_prepack(torch.float32)


def _vendor() -> str:
    """Return the name that an x86 processor gives of its maker; nothing of others."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = [f"vendor_id: {os.environ.get('PROCESSOR_IDENTIFIER', '').rpartition(' ')[2]}"]  # on Windows
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")
