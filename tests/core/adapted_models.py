"""Tiny backbones with an adapter that has learnt something, and what their loss and its gradients are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tiny_models as tiny
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from vertebra import create_host
from vertebra.config.options import configure
from vertebra.config.schema import BackboneConfig
from vertebra.engine.adapters.adapter import adapt, trained_parameters
from vertebra.engine.attention import PACKED
from vertebra.engine.backbone import Backbone, BackboneInfo, Packing
from vertebra.engine.directions import Direction
from vertebra.engine.loading import load_tokenizer
from vertebra.engine.packing import PackedBatch, pack
from vertebra.tasks.features import Features

HOST = create_host()
TOKENIZER = load_tokenizer(BackboneConfig(), HOST)
BY_PEFT = ["lora", "dora", "rslora", "adalora", "ia3"]
PACKING = [*BY_PEFT, "bottleneck", "layer_norm", "top_layers"]
FAMILIES = ["gpt2", "llama"]


def collate(features: Sequence[Features]) -> Tensor:
    return torch.tensor([value for one in features for value in one.target])


def batch_of(features: Sequence[Features]) -> PackedBatch:
    return pack(features, collate)


def adapted(
    name: str, family: str = "gpt2", attention: Direction = "causal", packing: Packing = "packed", **settings: Any
) -> Backbone:
    """Return a tiny backbone with an adapter that has learnt something."""
    model = tiny.model(family)
    if packing == "packed":
        model.set_attn_implementation(PACKED)
    count = sum(one.numel() for one in model.parameters())
    info = BackboneInfo("tiny", count, "random", attention, packing, "written out", tiny.CONTEXT, "", ())
    settings = {"layers": 1} | settings if name == "top_layers" else settings
    config = configure(HOST, task="ner", adapter={"name": name, **settings})
    backbone = adapt(Backbone(model, TOKENIZER, info), config, HOST).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in trained_parameters(backbone):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return backbone


def writing(family: str) -> Backbone:
    """Return a tiny plain backbone with its language-model head."""
    language_model = AutoModelForCausalLM.from_config(tiny.config(family), dtype=torch.float32).eval()
    info = BackboneInfo("tiny", 1, "random", "causal", "padded", "transformers", tiny.CONTEXT, "", ())
    return Backbone(language_model.base_model, TOKENIZER, info, language_model, "sdpa")


def loss_of(hidden_TD: Tensor, batch: PackedBatch) -> Tensor:
    assert batch.targets is not None
    weights_D = torch.linspace(-1, 2, hidden_TD.shape[1]).sin()
    return (hidden_TD @ weights_D - batch.targets).square().mean()


def loss_and_gradients(backbone: Backbone, batches: Sequence[PackedBatch]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss over all tokens of the batches, and its gradients."""
    backbone.zero_grad()
    total = sum(batch.n_tokens for batch in batches)
    losses = [loss_of(backbone(batch), batch) * (batch.n_tokens / total) for batch in batches]
    loss = torch.stack(losses).sum()
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None}


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Gradients are alike to 1e-5 of each one's greatest entry: entries that nearly cancel out are of no other precision."""
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        greatest = float(gradient.abs().max())
        torch.testing.assert_close(found[key], gradient, rtol=0, atol=1e-5 * greatest + 1e-7)


LENGTHS = [3, tiny.CONTEXT // 2, 7, 1, 12]
