"""A model's linear layers exchanged for prepacked ones, for inference on the CPU."""

from __future__ import annotations

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from vertebra.engine.prepacked import linear, prepack


class PrepackedLinear(nn.Module):
    """The same function as a linear layer, for inference: later changes of the weight are not seen."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """`weight` is (outputs, inputs), as in `nn.Linear`."""
        super().__init__()
        self._packed = prepack(weight)
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """Return x · weightᵀ + bias."""
        return linear(x, self._packed, self.bias)


def prepack_layers(model: nn.Module) -> None:
    """Put a prepacked layer in the place of every linear layer of a model that is called, and not read."""
    for module in list(model.modules()):
        if getattr(module, "lora_variant", None):  # DoRA reads the matrix that it is around, as the layer stores it
            continue
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PrepackedLinear(child.weight, child.bias))
            elif type(child) is Conv1D:
                weight, bias = child.get_parameter("weight").detach().t(), child.get_parameter("bias")
                setattr(module, name, PrepackedLinear(weight, bias))
