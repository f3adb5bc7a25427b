"""A second model over the same weights, so that generation changes nothing in the model it was given."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.activations import NewGELUActivation


def replica(model: PreTrainedModel, dtype: torch.dtype | None) -> PreTrainedModel:
    """Return a copy in evaluation mode that shares every parameter and buffer, or has its parameters in another `dtype`.

    Buffers keep their precision, as when transformers loads a model: rotary frequencies in bf16 would be wrong.
    """
    shared: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    for parameter in model.parameters():
        kept = dtype is None or not parameter.is_floating_point()
        shared[id(parameter)] = (
            parameter if kept else nn.Parameter(parameter.detach().to(dtype), requires_grad=parameter.requires_grad)
        )
    copied: PreTrainedModel = copy.deepcopy(model, shared)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if type(child) is NewGELUActivation:  # nine operations where torch has one
                setattr(module, name, nn.GELU(approximate="tanh"))
    if dtype is not None:
        copied.config.dtype = dtype
    return copied.eval()
