"""Agreement in pretraining: the same windows through both sides, with the same weights; how far apart are loss and gradient?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vertebra.config.schema import GPUConfig
from vertebra.engine.model import TaskModel
from vertebra.host.hookspecs import hookimpl
from vertebra_speed.agreement import difference
from vertebra_speed.clock import Clock
from vertebra_speed.own import pretrain as own
from vertebra_speed.own.train import LIKE_HF, Stopwatch, fit
from vertebra_speed.peers import pretrain as peer
from vertebra_speed.windows import Windows

COMPARED = 2
"""Windows."""


def compare_pretraining(folder: str, threads: int, device: str) -> dict[str, Any]:
    """Return the relative differences of loss and gradient: ours in fp32 and bf16, and Trainer's bf16, from Trainer's fp32."""
    torch.set_num_threads(threads)
    windows = Windows.read(folder)
    chosen = windows.undivided()[:COMPARED]
    if not chosen:
        return {}
    theirs, ours = peer.load_model(windows).train().to(device), own.load_model(windows).train().to(device)
    blocks = torch.from_numpy(windows.tokens_NW[chosen, :-1]).to(device)
    loss, gradient = _peer_step(theirs, blocks, device, bf16=False)
    found = {"peer bf16": _peer_step(theirs, blocks, device, bf16=True)}
    for precision in ("fp32", "bf16"):
        gpu = GPUConfig(device=device, precision=precision, threads=threads)  # type: ignore[arg-type]
        found[precision] = _own_step(ours, windows, chosen, gpu)
    return {
        name: {"loss": abs(its_loss - loss) / abs(loss), "gradient": difference(its_gradient, gradient)}
        for name, (its_loss, its_gradient) in found.items()
    }


def _gradients_of(backbone: nn.Module) -> dict[str, Tensor]:
    """Return the gradients by name; the output matrix is the embedding."""
    return {name: one.grad for name, one in backbone.named_parameters() if one.grad is not None}


def _peer_step(model: Any, blocks: Tensor, device: str, *, bf16: bool) -> tuple[float, dict[str, Tensor]]:
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        loss = model(input_ids=blocks, labels=blocks).loss
    loss.backward()
    gradients = _gradients_of(model.base_model)
    model.zero_grad(set_to_none=True)
    return loss.item(), gradients


class _Gradients:
    """A behaviour that keeps the gradients of a step."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}

    @hookimpl
    def step_ending(self, model: TaskModel) -> None:
        """Keep them, and leave the optimizer nothing to do, for the next precision starts from the same weights."""
        self.found = _gradients_of(model.backbone.model)
        for parameter in model.parameters():
            parameter.grad = None


def _own_step(model: TaskModel, windows: Windows, chosen: list[int], gpu: GPUConfig) -> tuple[float, dict[str, Tensor]]:
    watch, gradients = Stopwatch(0, 1, Clock(gpu.device)), _Gradients()
    config = replace(LIKE_HF, batch_size=len(chosen), max_steps=1, clip=None)
    examples = [
        [replace(own.as_trainer_sees(windows.pieces(number)), example=place)] for place, number in enumerate(chosen)
    ]
    fit(model, own.NextTokens(), examples, gpu, config, 0, watch, gradients)
    return watch.loss, gradients.found
