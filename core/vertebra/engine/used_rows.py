"""An embedding of which training moves only the rows that the training split uses."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from vertebra.engine.adamw import AdamW
from vertebra.engine.model import TaskModel
from vertebra.tasks.features import Features


def train_used_rows(model: TaskModel, optimizer: torch.optim.Optimizer, features: Iterable[Features]) -> None:
    """Let the input embedding have gradients of single rows, where that changes nothing but the time that a step takes.

    That is so where the embedding stands in no other place (it is not also the output matrix), no padding is looked up,
    and the optimizer moves no row that has had no gradient. On a GPU whole gradients are cheap, and stay.
    """
    embedding = model.backbone.model.get_input_embeddings()
    weight = embedding.weight
    places = [one for _, one in model.named_parameters(remove_duplicate=False) if one is weight]
    plain = type(embedding) is nn.Embedding and weight.requires_grad and len(places) == 1
    on_cpu = weight.device.type == "cpu"
    if not plain or not on_cpu or not isinstance(optimizer, AdamW) or model.backbone.info.packing == "padded":
        return
    rows = np.unique(np.concatenate([one.input_ids for one in features])).astype(np.int64)
    if len(rows) < len(weight) / 2 and optimizer.take_rows(weight, torch.from_numpy(rows)):
        embedding.sparse = True
