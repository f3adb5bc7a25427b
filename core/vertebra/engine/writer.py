"""The texts that a generation task predicts, by the generator over the backbone's weights as they are now."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from vertebra.engine.backbone import Backbone
from vertebra.engine.devices import Devices
from vertebra.engine.generation.generator import Generator
from vertebra.tasks.features import Features
from vertebra.tasks.generation import Generation

SLOTS = {"cpu": 32, "cuda": 256}
"""Texts that are written at once."""


class Writer:
    """Goes on with the prompts of a task's features; make a new one when the weights have changed."""

    def __init__(self, backbone: Backbone, task: Generation, devices: Devices) -> None:
        self._task = task
        device = devices.accelerator.device.type
        end = backbone.tokenizer.eos_token_id
        self._generator = Generator(
            as_loaded(backbone),
            backbone.tokenizer,
            eos_ids=[] if end is None else [end],
            slots=SLOTS.get(device, 32),
            prefill_tokens=devices.budget.tokens,
            dtype=devices.evaluation_dtype,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not fast."""
        return self._generator.notes

    @torch.no_grad()
    def write(self, features: Sequence[Features]) -> list[str]:
        """Return a text for each sequence, without the white space around it."""
        completions = self._generator.generate(self._task.request(one) for one in features)
        return [(one.text or "").strip() for one in completions]


def as_loaded(backbone: Backbone) -> PreTrainedModel:
    """Return the language model over the same weights with an attention of its own, which packing has exchanged."""
    assert backbone.language_model is not None
    shared = {
        id(tensor): tensor for tensor in (*backbone.language_model.parameters(), *backbone.language_model.buffers())
    }
    model: PreTrainedModel = copy.deepcopy(backbone.language_model, shared)
    if model.config._attn_implementation != backbone.own_attention:
        model.set_attn_implementation(backbone.own_attention)
    return model.eval()
