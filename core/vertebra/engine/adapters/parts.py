"""Adapters that choose among the backbone's own parameters; the layers written out for speed stay in use."""

from __future__ import annotations

from typing import Any

from vertebra.config.adapters import TopLayersConfig
from vertebra.engine.adapters.adapter import freeze
from vertebra.engine.backbone import Backbone
from vertebra.engine.layer_names import layer_of
from vertebra.errors import BackboneError


def none(backbone: Backbone, config: Any) -> Backbone:
    """Train the whole backbone."""
    return backbone


def frozen(backbone: Backbone, config: Any) -> Backbone:
    """Train the head alone; a language model gets an output matrix of its own for that."""
    backbone.requires_grad_(False)
    backbone.untie()
    backbone.frozen = True
    return backbone.eval()


def layer_norm(backbone: Backbone, config: Any) -> Backbone:
    """Train the norms alone (Zhao and others, "Tuning LayerNorm in attention", ICLR 2024)."""
    freeze(backbone)
    norms = [module for module in backbone.model.modules() if "norm" in type(module).__name__.lower()]
    for norm in norms:
        norm.requires_grad_(True)
    if not norms:
        raise BackboneError(
            f"adapter=layer_norm finds no norm in models of the family '{backbone.model.config.model_type}'."
        )
    return backbone


def top_layers(backbone: Backbone, config: TopLayersConfig) -> Backbone:
    """Train the uppermost layers, and the norm behind them."""
    depth = int(backbone.model.config.num_hidden_layers)
    if config.layers > depth:
        raise BackboneError(f"adapter.layers={config.layers}, and the backbone has {depth}.")
    freeze(backbone)
    last = 0
    for name, parameter in backbone.named_parameters():
        layer = layer_of(name)
        last = last if layer is None else max(last, layer + 1)
        behind = layer is None and last == depth  # what follows the last layer follows it in the model's order, too
        parameter.requires_grad_(behind or (layer is not None and layer >= depth - config.layers))
    if not last:
        raise BackboneError(
            f"adapter=top_layers finds no layers in models of the family '{backbone.model.config.model_type}'."
        )
    return backbone
