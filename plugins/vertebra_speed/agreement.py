"""Agreement: one batch through both sides, with the same weights and without dropout; how far apart are loss and gradient?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vertebra.config.schema import GPUConfig
from vertebra.engine.model import TaskModel
from vertebra.host.hookspecs import hookimpl
from vertebra_speed.clock import Clock
from vertebra_speed.own import train as own
from vertebra_speed.peers import trainer as peer
from vertebra_speed.workload import Workload, linear_of

Model = TypeVar("Model", bound=nn.Module)
NO_DROPOUT: dict[str, dict[str, Any]] = {
    "gpt2": dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0),
    "llama": {},
}


def compare_training(folder: str, family: str, threads: int, device: str, batch_size: int) -> dict[str, Any]:
    """Return the relative differences of loss and gradient: ours in fp32 and bf16, and Trainer's bf16, from Trainer's fp32."""
    torch.set_num_threads(threads)
    workload = Workload.read(folder)
    theirs = without_dropout(peer.load_model(workload, NO_DROPOUT[family])).to(device)
    ours = without_dropout(own.load_model(workload, NO_DROPOUT[family])).to(device)
    loss, gradient = peer_step(theirs, workload, batch_size, device, bf16=False)
    found = {"peer bf16": peer_step(theirs, workload, batch_size, device, bf16=True)}
    for precision in ("fp32", "bf16"):
        found[precision] = own_step(ours, workload, batch_size, device, threads, precision)
    return {
        name: {
            "loss": abs(its_loss - loss) / abs(loss),
            "gradient": difference(its_gradient, gradient),
        }
        for name, (its_loss, its_gradient) in found.items()
    }


def without_dropout(model: Model) -> Model:
    """Set every dropout to 0; the model stays in training."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.train()


def gradients_of(backbone: nn.Module, head: nn.Linear) -> dict[str, Tensor]:
    """Return the gradients by name."""
    return {
        f"{part}.{name}": parameter.grad
        for part, module in {"backbone": backbone, "head": head}.items()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def peer_step(
    model: PreTrainedModel, workload: Workload, batch_size: int, device: str, *, bf16: bool
) -> tuple[float, dict[str, Tensor]]:
    """Return loss and gradients of the padded batch, as Trainer computes them."""
    tokenizer = workload.tokenizer()
    rows = [peer.columns(one, tokenizer, pad=True) for one in workload.features["train"][:batch_size]]
    collated = peer.make_collator(workload, tokenizer, to_longest=False)(rows)
    batch = {name: tensor.to(device) for name, tensor in collated.items()}
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        loss = model(**batch).loss
    loss.backward()
    gradients = gradients_of(model.base_model, peer.head_of(model))
    model.zero_grad(set_to_none=True)
    return loss.item(), gradients


class Gradients:
    """A behaviour that keeps the gradients of a step."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}

    @hookimpl
    def step_ending(self, model: TaskModel) -> None:
        """Keep them, and leave the optimizer nothing to do, for the next precision starts from the same weights."""
        self.found = gradients_of(model.backbone.model, linear_of(model.heads))
        for parameter in model.parameters():
            parameter.grad = None


def own_step(
    model: TaskModel, workload: Workload, batch_size: int, device: str, threads: int, precision: str
) -> tuple[float, dict[str, Tensor]]:
    """Return loss and gradients of the same batch, as our trainer computes them."""
    watch, gradients = own.Stopwatch(0, 1, Clock(device)), Gradients()
    config = replace(own.LIKE_HF, batch_size=batch_size, max_steps=1, clip=None)
    gpu = GPUConfig(device=device, precision=precision, threads=threads)  # type: ignore[arg-type]
    examples = [[one] for one in workload.features["train"][:batch_size]]
    own.fit(model, workload.task, examples, gpu, config, 0, watch, gradients)
    return watch.loss, gradients.found


def difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Return the norm of the difference of all gradients as a share of the norm of `theirs`."""
    missing = sorted(set(theirs) ^ set(ours))
    assert not missing, f"gradients on one side alone: {missing}"
    apart = sum(float((ours[name].double() - theirs[name].double()).square().sum()) for name in theirs)
    whole = sum(float(theirs[name].double().square().sum()) for name in theirs)
    return float((apart / whole) ** 0.5)
