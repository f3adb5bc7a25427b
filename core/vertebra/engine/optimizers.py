"""Optimizers, and the groups of parameters that they treat differently."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from vertebra.config.schema import TrainerConfig
from vertebra.engine.adamw import AdamW
from vertebra.engine.layer_names import layer_of
from vertebra.engine.muon import Muon
from vertebra.engine.task_weights import LOG_VARIANCE_RATE

Groups = list[dict[str, Any]]
OF_BACKBONE = ("backbone.", "adapted.")
"""How the names of a model's parameters begin that are the backbone's, or of an adapter in it."""


def adamw(groups: Groups, config: TrainerConfig) -> torch.optim.Optimizer:
    """Return AdamW with decoupled weight decay (Loshchilov and Hutter, 2019), fused into one kernel."""
    return AdamW(groups, betas=(0.9, 0.999), eps=1e-8)


def muon(groups: Groups, config: TrainerConfig) -> torch.optim.Optimizer:
    """Return Muon (Jordan and others, 2024) for the layers' matrices, AdamW for embeddings, heads, biases and norms."""
    return Muon(groups, betas=(0.9, 0.95), eps=1e-8)


def sgd(groups: Groups, config: TrainerConfig) -> torch.optim.Optimizer:
    """Return stochastic gradient descent with Nesterov momentum 0.9."""
    return torch.optim.SGD(groups, momentum=0.9, nesterov=True, fused=True)


def parameter_groups(
    model: nn.Module, config: TrainerConfig, learning_rate: float, of_tasks: Mapping[str, float] | None = None
) -> Groups:
    """Group the trainable parameters by rate and decay.

    Heads learn at `head_learning_rate`, what tasks weigh at a rate of its own. With `layer_decay` each layer of the backbone
    learns at that factor of the one above it, the embeddings below the lowest (Howard and Ruder, 2018). Weights of one
    dimension (biases, norms) are not decayed, nor are embeddings: their rows would fade with the steps in which their token
    does not occur. `hidden` says whether a group holds matrices inside layers, which some optimizers treat by themselves.
    `of_tasks` has by name what the rate of a task's own parameters is in terms of `learning_rate`.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    depth = _depth(name for name, _ in named if name.startswith(OF_BACKBONE))
    groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
    for name, parameter in named:
        own_rate = learning_rate * (of_tasks or {}).get(_task(name), 1.0)
        if name.startswith(OF_BACKBONE):
            rate = own_rate * config.layer_decay ** (depth - _level(name, depth))
        elif name.startswith("weighting."):
            rate = LOG_VARIANCE_RATE
        else:
            rate = config.head_learning_rate or own_rate
        embedding = name.startswith(OF_BACKBONE) and _level(name, depth) == 0
        decay = 0.0 if parameter.ndim < 2 or embedding else config.weight_decay
        hidden = name.startswith(OF_BACKBONE) and layer_of(name) is not None and parameter.ndim == 2
        new = {"params": [], "lr": rate, "weight_decay": decay, "hidden": hidden}
        group = groups.setdefault((rate, decay, hidden), new)
        group["params"].append(parameter)
    return list(groups.values())


def _task(name: str) -> str:
    """Return whose a parameter is, its head's or its adapter's; nobody's where tasks share it."""
    owner, _, rest = name.partition(".")
    return rest.partition(".")[0] if owner in ("heads", "adapted") else ""


def _depth(names: Iterable[str]) -> int:
    """Return the number of layers."""
    return 1 + max((layer for name in names if (layer := layer_of(name)) is not None), default=-1)


def _level(name: str, depth: int) -> int:
    """Return 0 for embeddings, 1 … depth for the layers; what comes behind the last layer stands beside it."""
    layer = layer_of(name)
    if layer is not None:
        return layer + 1
    return 0 if re.search(r"(wte|wpe|embed)", name) else depth
