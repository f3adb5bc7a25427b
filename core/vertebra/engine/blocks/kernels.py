"""How the matrices of a forward pass are multiplied: plainly in training, prepacked in evaluation."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from vertebra.engine import prepacked
from vertebra.engine.blocks import functions
from vertebra.engine.blocks.functions import Layer


class Kernels(Protocol):
    """What computes the linear layers of a forward pass."""

    dtype: torch.dtype
    """In which matrices are multiplied."""

    def linear(self, layer: Layer, x_TI: Tensor) -> Tensor:
        """Return the layer's output (T, O)."""

    def gelu_linear(self, layer: Layer, x_TI: Tensor) -> Tensor:
        """Return GELU, in its tanh form, of the layer's output (T, O)."""

    def at_positions(self) -> Kernels:
        """Return what multiplies from where on the rows are those of the positions that are read, and no longer all."""


class PlainKernels:
    """Multiply in `dtype` with the parameters as they are; differentiable."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def linear(self, layer: Layer, x_TI: Tensor) -> Tensor:
        """Return the layer's output (T, O) in `dtype`."""
        return functions.linear(x_TI, layer, self.dtype)

    def gelu_linear(self, layer: Layer, x_TI: Tensor) -> Tensor:
        """Return GELU of the layer's output (T, O) in `dtype`."""
        if torch.is_grad_enabled():
            return functions.gelu(self.linear(layer, x_TI))
        return functions.gelu_linear(x_TI, layer, self.dtype)

    def at_positions(self) -> PlainKernels:
        """Return these: all rows are alike to them."""
        return self


class PrepackedKernels:
    """Multiply with prepacked weights, for inference as long as no weight changes; only where `can_prepack` says so."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._packed: dict[Layer, tuple[Tensor, Tensor | None]] = {}

    def linear(self, layer: Layer, x_TI: Tensor) -> Tensor:
        """Return the layer's output (T, O) in `dtype`."""
        return prepacked.linear(x_TI.to(self.dtype), *self._weights(layer))

    def gelu_linear(self, layer: Layer, x_TI: Tensor) -> Tensor:
        """Return GELU of the layer's output (T, O) in `dtype`."""
        return prepacked.gelu_linear(x_TI.to(self.dtype), *self._weights(layer))

    def at_positions(self) -> PrepackedKernels:
        """Return these: all rows are alike to them."""
        return self

    def _weights(self, layer: Layer) -> tuple[Tensor, Tensor | None]:
        if layer not in self._packed:
            weight_OI = layer.weight.T if isinstance(layer, Conv1D) else layer.weight
            bias_O = None if layer.bias is None else layer.bias.detach().to(self.dtype)
            self._packed[layer] = prepacked.prepack(weight_OI.to(self.dtype)), bias_O
        return self._packed[layer]
