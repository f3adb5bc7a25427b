"""LoRA in the layers that are written out for speed: what peft's own layers compute, and what is left to them."""

from __future__ import annotations

from dataclasses import replace

import peft
import pytest
import tiny_models as tiny
import torch
from adapted_models import (
    FAMILIES,
    LENGTHS,
    PACKING,
    adapted,
    assert_alike,
    batch_of,
    loss_and_gradients,
)
from peft.tuners.lora.layer import Linear as LoRALinear

from vertebra.engine.blocks.passes import find_pass


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PACKING)
def test_of_what_peft_adds_layers_written_out_know_lora_alone(name: str, family: str) -> None:
    untouched = name in ("layer_norm", "top_layers")
    written_out = name in ("lora", "rslora") or untouched
    backbone = adapted(name, family)
    assert backbone.info.layers == ("written out" if written_out else "transformers")
    assert (find_pass(backbone.model) is not None) == written_out


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("targets", ["attention", "all"])
def test_lora_in_layers_written_out_is_what_pefts_layers_compute(family: str, targets: str) -> None:
    backbone = adapted("lora", family, targets=targets, dropout=0.0).train()
    batch = batch_of(tiny.sequences(LENGTHS))
    loss, gradients = loss_and_gradients(backbone, [batch])
    backbone.info = replace(backbone.info, layers="transformers")
    expected_loss, expected = loss_and_gradients(backbone, [batch])
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=1e-6)
    assert_alike(gradients, expected)


def test_a_lora_around_another_adapter_is_left_to_peft() -> None:
    backbone = adapted("ia3")
    settings = peft.LoraConfig(target_modules=[".*c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    for block in backbone.model.h:  # type: ignore[union-attr]
        block.attn.c_attn = LoRALinear(block.attn.c_attn, "default", settings, r=2, lora_alpha=2)  # type: ignore[union-attr]
    assert find_pass(backbone.model) is None


def test_a_lora_that_is_switched_off_or_merged_is_left_to_peft() -> None:
    batch = batch_of(tiny.sequences(LENGTHS))
    backbone = adapted("lora")
    with torch.no_grad():
        on = backbone(batch)
        layers = [one for one in backbone.model.modules() if hasattr(one, "lora_A")]
        for one in layers:
            one.merge()  # type: ignore[operator]
        assert find_pass(backbone.model) is None
        torch.testing.assert_close(backbone(batch), on, rtol=1e-5, atol=1e-5)
        for one in layers:
            one.unmerge()  # type: ignore[operator]
            one.enable_adapters(False)  # type: ignore[operator]
        assert find_pass(backbone.model) is None
        assert not torch.allclose(backbone(batch), on, atol=1e-3)
