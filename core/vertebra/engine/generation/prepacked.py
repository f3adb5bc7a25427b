"""Linear layers whose weights oneDNN has laid out once, which on CPU makes products with few rows up to twice as fast.

The operators are private to torch, so they are tried before they are used.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

ROWS = 32
"""The number of rows that the layout is chosen for; it does as well for others from 1 to 500."""


class PrepackedLinear(nn.Module):
    """The same function as a linear layer, for inference: later changes of the weight are not seen."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """`weight` is (outputs, inputs), as in `nn.Linear`."""
        super().__init__()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        self._run: Any = torch.ops.mkldnn._linear_pointwise.default
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """Return x · weightᵀ + bias."""
        packed: Tensor = self._run(x, self._packed, self.bias, "none", [], "")
        return packed


@torch.no_grad()
def can_prepack(dtype: torch.dtype) -> bool:
    """Whether the private operators are there and give what a linear layer gives."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=generator).to(dtype) for shape in ((3, 40), (50, 40), (50,)))
    try:
        packed = PrepackedLinear(weight, bias)(x)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.allclose(packed, F.linear(x, weight, bias), atol=1e-5, rtol=1e-2 if dtype != torch.float32 else 1e-5)


def prepack(model: nn.Module) -> None:
    """Put a prepacked layer in the place of every linear layer of a model."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PrepackedLinear(child.weight, child.bias))
            elif type(child) is Conv1D:
                setattr(
                    module,
                    name,
                    PrepackedLinear(child.get_parameter("weight").detach().t(), child.get_parameter("bias")),
                )
