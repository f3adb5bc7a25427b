"""The ceiling: how fast the machine multiplies large matrices, and how many operations the work needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vertebra.config.schema import GPUConfig
from vertebra.engine.devices import set_up
from vertebra.engine.prepacked import can_prepack, linear, prepack

SIZE = {"cpu": 2048, "cuda": 8192}
TRIES = 8


def measure_ceiling(device: str, threads: int) -> dict[str, Any]:
    """Return the best rate, in operations a second, of a large square matrix product in each precision.

    It is the best of all the ways at hand: on the CPU torch's own product and, where it can be had, the one with a prepacked
    factor, which is another library's and in fp32 up to three times as fast.
    With one thread the seconds are the processor's, as in the measurement itself.
    """
    set_up(GPUConfig(device=device, threads=threads))  # type: ignore[arg-type]  # refuses a GPU that is not there
    return {"fp32": _rate(device, threads, torch.float32), "bf16": _rate(device, threads, torch.bfloat16)}


def _rate(device: str, threads: int, dtype: torch.dtype) -> float:
    size = SIZE[device]
    one = torch.randn(size, size, device=device).to(dtype)
    products: list[Callable[[], Tensor]] = [lambda: one @ one]
    if device == "cpu" and can_prepack(dtype):
        packed = prepack(one)
        products.append(lambda: linear(one, packed, None))
    clock = time.process_time if threads == 1 and device == "cpu" else time.perf_counter
    best = float("inf")
    for product in products * TRIES:
        start = clock()
        product()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, clock() - start)
    return 2 * size**3 / best


def operations_a_token(backbone: nn.Module, layers: int, width: int, lengths: list[int]) -> float:
    """Return the operations of one forward pass for each real token, on average over sequences of these lengths.

    Two for each weight of a linear layer, and causal attention: a token looks at half its sequence, on average. A
    backward pass takes twice as many again.
    """
    weights = sum(
        parameter.numel()
        for module in backbone.modules()
        if not isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
        if parameter.ndim == 2
    )
    mean_length = sum(length * length for length in lengths) / sum(lengths)
    return 2.0 * weights + 2.0 * layers * width * mean_length
