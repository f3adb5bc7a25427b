"""A model whose weights, gradients and moments are shared out among processes: FSDP2 (Zhao and others, 2023).

Each layer of the backbone is a group of its own; embeddings, the last norm and the heads are one more. A group is gathered when
a pass needs it, in the forward and again in the backward pass, and given up right behind. So a pass is an exchange among
all processes, and all must make the same number of them.

Heads are sharded with the rest: a head that shares its matrix with the embedding could not be treated apart, and an
optimizer that meets sharded tensors alone needs no second rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from vertebra.engine.blocks.passes import find_pass
from vertebra.engine.devices import Devices
from vertebra.engine.model import TaskModel
from vertebra.errors import BackboneError


def shard(model: TaskModel, devices: Devices) -> None:
    """Leave each process its rows of every parameter, on its device; the whole model is never there.

    `BackboneError` where the layers of the backbone are not found.
    """
    mesh = init_device_mesh(devices.accelerator.device.type, (devices.accelerator.num_processes,))
    # Nothing stays gathered between passes, so that whoever reads a parameter there always finds its rows.
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    backbone = model.backbone
    if backbone.info.layers == "written out" and find_pass(backbone.model) is None:
        # Those read parameters past the modules that gather them.
        backbone.info = replace(backbone.info, layers="transformers")


def clip_shards(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """Scale all gradients so that their norm over all processes, of which the one before is returned, is at most `limit`."""
    gradients = [cast(DTensor, parameter.grad) for parameter in parameters if parameter.grad is not None]
    norm = cast(DTensor, torch.nn.utils.get_total_norm(gradients)).full_tensor()
    if limit is not None:
        torch._foreach_mul_([one.to_local() for one in gradients], (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


@contextmanager
def whole(model: TaskModel, *, here: bool) -> Iterator[None]:
    """Put whole parameters, on the CPU, in the place of rows, to be saved and not to be run; every process must come here.

    Only where it is `here` are they kept: one process needs the memory of a whole model.
    """
    places: dict[nn.Parameter, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            places.setdefault(parameter, []).append((module, name))
    for parameter, found in places.items():
        gathered = cast(DTensor, parameter.detach()).full_tensor()
        if here:
            # Gathered rows are a view of a buffer with room for equal parts.
            own = gathered.clone().cpu()
            _put(nn.Parameter(own, requires_grad=parameter.requires_grad), found)
    try:
        yield
    finally:
        for parameter, found in places.items():
            _put(parameter, found)


def _put(parameter: nn.Parameter, places: Iterable[tuple[nn.Module, str]]) -> None:
    for module, name in places:
        module.register_parameter(name, parameter)


def _layers(model: TaskModel) -> Iterable[nn.Module]:
    backbone = model.backbone.model
    number = int(backbone.config.num_hidden_layers)
    for module in backbone.modules():
        if isinstance(module, nn.ModuleList) and len(module) == number:
            return module
    raise BackboneError(
        f"gpu.shard=true finds no list of {number} layers in models of the family '{backbone.config.model_type}'. "
        "Use gpu=ddp."
    )
