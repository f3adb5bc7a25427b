"""Run by test_distributed_plan.py in several processes: trains a small Llama for a step and prints, as JSON, what it took.

python distributed_worker.py WIDTH INNER LAYERS HEADS VOCABULARY
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from small_llama import llama
from vertebra.config.schema import GPUConfig
from vertebra.engine.attention import PACKED
from vertebra.engine.backbone import Backbone, BackboneInfo
from vertebra.engine.devices import set_up
from vertebra.engine.model import TaskModel
from vertebra.engine.packing import pack
from vertebra.engine.sharding import shard
from vertebra.tasks.features import Features


def main(*shape: int) -> None:
    devices = set_up(GPUConfig(device="cpu", processes="auto", shard=True, threads=1, precision="fp32"))
    inside = llama(*shape)
    inside.set_attn_implementation(PACKED)
    info = BackboneInfo("llama", 0, "random", "causal", "packed", "transformers", 64, "", ())
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0}, [])))
    model = TaskModel(Backbone(inside, tokenizer, info), {"none": torch.nn.Identity()})
    if devices.sharded:
        shard(model, devices)
    optimizer = torch.optim.AdamW(model.parameters())
    sent = count_sent_bytes()
    batch = pack([Features(np.arange(32), positions=np.arange(32))], lambda _: None)
    model(batch, "none").square().sum().backward()
    made = sent[0]
    optimizer.step()
    moments = [one for state in optimizer.state.values() for one in state.values() if one.ndim]
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    held = sum(local(one).numel() * one.element_size() for one in (*model.parameters(), *gradients, *moments))
    if dist.is_initialized():
        totals = torch.tensor([held], dtype=torch.float64)
        dist.all_reduce(totals)
        held = float(totals) / devices.accelerator.num_processes
    if devices.accelerator.is_main_process:
        print(json.dumps({"held": held, "sent": made, "parameters": sum(one.numel() for one in model.parameters())}))


def local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def count_sent_bytes() -> list[float]:
    """Count, from here on, what a ring sends of each tensor that is gathered or shared out."""
    counted = [0.0]

    def counting(exchange: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            whole = max((one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)), key=torch.numel)
            processes = dist.get_world_size()
            counted[0] += whole.numel() * whole.element_size() * (processes - 1) / processes
            return exchange(*args, **kwargs)

        return call

    # Versions of torch call them by different names.
    for name in ("all_gather_into_tensor", "all_gather_single", "reduce_scatter_tensor", "reduce_scatter_single"):
        if hasattr(dist, name):
            setattr(dist, name, counting(getattr(dist, name)))
    return counted


main(*map(int, sys.argv[1:]))
