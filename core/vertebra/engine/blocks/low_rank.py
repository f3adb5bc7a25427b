"""Linear layers that peft has given a LoRA (Hu and others, 2021), in the passes that are written out here.

The layer inside multiplies as it does without; to its output is added what two thin matrices make of the input.

Letters: T tokens, I and O features going in and out of a layer, R rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vertebra.engine.blocks.functions import Layer, add_low_rank, drop, gelu
from vertebra.engine.blocks.kernels import Kernels


@dataclass(frozen=True)
class LowRank:
    """What is added to one matrix."""

    down_RI: nn.Parameter
    up_OR: nn.Parameter
    scale: float
    dropout: float

    def add_to(self, out_TO: Tensor, x_TI: Tensor, *, training: bool) -> Tensor:
        """Return the layer's output with what is added for these rows (T, I), in the memory of the output."""
        kept_TI = drop(x_TI, self.dropout if training else 0.0)
        return add_low_rank(out_TO, kept_TI, self.down_RI, self.up_OR, self.scale)


def has_low_rank(layer: object) -> bool:
    """Whether peft has put anything of LoRA's kind around a layer."""
    return bool(getattr(layer, "lora_A", None))


def find_low_rank(layer: Any) -> tuple[Any, LowRank] | None:
    """Return the layer inside one that peft has given a LoRA, and what is added to it.

    None for any other layer, and where a sum is not all of it: for DoRA and other variants, a bias, several adapters, and
    one that is merged or switched off.
    """
    if not has_low_rank(layer) or type(layer).__name__ != "Linear" or len(layer.lora_A) != 1:
        return None
    (name,) = layer.lora_A
    differs = layer.use_dora.get(name) or layer.lora_bias.get(name) or name in getattr(layer, "lora_variant", {})
    if differs or layer.merged or layer.disable_adapters or layer.active_adapters != [name]:
        return None
    dropout = getattr(layer.lora_dropout[name], "p", 0.0)
    down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
    return layer.base_layer, LowRank(down, up, float(layer.scaling[name]), float(dropout))


def without_low_rank(layer: Any) -> Any:
    """Return the layer inside one that a LoRA is added to, or the layer itself."""
    found = find_low_rank(layer)
    return layer if found is None else found[0]


class LowRankKernels:
    """Multiply as other kernels do, and add to a layer's output what its LoRA makes of the input."""

    def __init__(self, base: Kernels, *, training: bool) -> None:
        self._base, self._training = base, training
        self.dtype = base.dtype

    def linear(self, layer: Layer, x_TI: Tensor) -> Tensor:
        """Return the layer's output (T, O)."""
        found = find_low_rank(layer)
        if found is None:
            return self._base.linear(layer, x_TI)
        inside, low_rank = found
        x_TI = x_TI.to(self._base.dtype)  # once for both
        return low_rank.add_to(self._base.linear(inside, x_TI), x_TI, training=self._training)

    def gelu_linear(self, layer: Layer, x_TI: Tensor) -> Tensor:
        """Return GELU, in its tanh form, of the layer's output (T, O)."""
        return gelu(self.linear(layer, x_TI)) if has_low_rank(layer) else self._base.gelu_linear(layer, x_TI)

    def at_positions(self) -> LowRankKernels:
        """Return these over what multiplies the rows of the positions that are read."""
        return LowRankKernels(self._base.at_positions(), training=self._training)
