"""How the matrices of a forward pass are multiplied: plainly in training, prepacked in evaluation."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from vertebra.engine.blocks import functions
from vertebra.engine.blocks.functions import Layer


class Kernels(Protocol):
    """What computes the linear layers of a forward pass."""

    def linear(self, layer: Layer, x_TI: Tensor) -> Tensor:
        """Return the layer's output (T, O)."""

    def gelu_linear(self, layer: Layer, x_TI: Tensor) -> Tensor:
        """Return GELU, in its tanh form, of the layer's output (T, O)."""


class PlainKernels:
    """Multiply in `dtype` with the parameters as they are; differentiable."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def linear(self, layer: Layer, x_TI: Tensor) -> Tensor:
        """Return the layer's output (T, O) in `dtype`."""
        return functions.linear(x_TI, layer, self.dtype)

    def gelu_linear(self, layer: Layer, x_TI: Tensor) -> Tensor:
        """Return GELU of the layer's output (T, O) in `dtype`."""
        return functions.gelu(self.linear(layer, x_TI))


class PrepackedKernels:
    """Multiply with weights that oneDNN has laid out for its kernels; for inference, as long as no weight changes.

    What does that is private to torch, so `are_available` tries it, and whoever uses this falls back on `PlainKernels`.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._packed: dict[Layer, tuple[Tensor, Tensor | None]] = {}

    def linear(self, layer: Layer, x_TI: Tensor, activation: str = "none", form: str = "") -> Tensor:
        """Return the layer's output (T, O) in `dtype`."""
        if layer not in self._packed:
            self._packed[layer] = _pack(layer, self.dtype)
        weight, bias_O = self._packed[layer]
        out_TO: Tensor = torch.ops.mkldnn._linear_pointwise(x_TI.to(self.dtype), weight, bias_O, activation, [], form)
        return out_TO

    def gelu_linear(self, layer: Layer, x_TI: Tensor) -> Tensor:
        """Return GELU of the layer's output (T, O) in `dtype`, computed while the output is still at hand."""
        return self.linear(layer, x_TI, "gelu", "tanh")

    @classmethod
    def are_available(cls, dtype: torch.dtype) -> bool:
        """Whether this torch has the operations, and they give what a plain product gives."""
        layer, x_TI = nn.Linear(32, 48), torch.linspace(-1, 1, 3 * 32).view(3, 32)
        try:
            with torch.no_grad():
                found, expected = (kernels.gelu_linear(layer, x_TI) for kernels in (cls(dtype), PlainKernels(dtype)))
        except (AttributeError, RuntimeError, TypeError):
            return False
        return torch.allclose(found, expected, atol=1e-5 if dtype == torch.float32 else 2e-2)


def _pack(layer: Layer, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    weight_OI = layer.weight.T if isinstance(layer, Conv1D) else layer.weight
    packed = torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach().to(dtype).contiguous())
    return packed, None if layer.bias is None else layer.bias.detach().to(dtype)
