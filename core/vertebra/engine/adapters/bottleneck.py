"""Bottleneck adapters, which peft does not have.

Letters: D hidden width, W inner width.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from vertebra.config.adapters import BottleneckConfig
from vertebra.engine.adapters.adapter import Adapter, freeze, whole_model
from vertebra.engine.backbone import Backbone
from vertebra.errors import BackboneError

_OWN = ".bottleneck."


class Bottleneck(nn.Module):
    """Down to W, GELU, up to D again, added to what came in (Houlsby and others, 2019); it begins as the identity."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, inner)
        self.up = nn.Linear(inner, width)
        nn.init.normal_(self.down.weight, std=0.02)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (…, D) to (…, D)."""
        added: Tensor = self.up(F.gelu(self.down(hidden)))
        return hidden + added


class BottleneckAdapter(Adapter):
    """Modules inside a backbone that is otherwise as it was; a nonlinear map does not become part of a matrix."""

    merges = False

    def base_weights(self) -> dict[str, Tensor]:
        """Return the weights without the bottlenecks."""
        return {name: one for name, one in whole_model(self.backbone).state_dict().items() if _OWN not in name}


def bottleneck(backbone: Backbone, config: BottleneckConfig) -> Backbone:
    """Put a bottleneck behind the feed-forward part of each layer, and train these alone."""
    freeze(backbone)
    parts = [module for name, module in backbone.model.named_modules() if name.endswith(".mlp")]
    if len(parts) != backbone.model.config.num_hidden_layers:
        raise BackboneError(
            f"adapter=bottleneck finds no feed-forward part in each layer of the family '{backbone.model.config.model_type}'."
        )
    for part in parts:
        part.add_module("bottleneck", Bottleneck(backbone.width, config.width))
        part.register_forward_hook(_through_bottleneck)
    backbone.adapter = BottleneckAdapter(backbone)
    return backbone


def _through_bottleneck(part: nn.Module, _: Any, output: Tensor) -> Tensor:
    passed: Tensor = part.get_submodule("bottleneck")(output)
    return passed
