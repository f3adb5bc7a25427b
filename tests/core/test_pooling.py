"""Pooling gives each sequence its own vector, whatever stands beside it in the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vertebra.config.schema import BackboneConfig
from vertebra.engine.loading import load_backbone
from vertebra.engine.packing import pack
from vertebra.host.manager import create_host
from vertebra.tasks.features import Features
from vertebra.tasks.heads import run_head
from vertebra.tasks.pooling import AttentionPooling, MeanPooling, pooled

COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=8)
WIDTH = 5


def hidden(counts: list[int], scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(counts))
    return scale * torch.randn(sum(counts), WIDTH, generator=generator)


@given(COUNTS)
def test_the_mean_is_that_of_each_sequence_s_positions(counts: list[int]) -> None:
    hidden_PD = hidden(counts)
    found = MeanPooling()(hidden_PD, counts)
    for part, mean in zip(hidden_PD.split(counts), found, strict=True):
        expected = part.mean(dim=0) if len(part) else torch.zeros(WIDTH)
        torch.testing.assert_close(mean, expected)


@given(COUNTS, st.sampled_from([1.0, 30.0]))
def test_attention_is_a_softmax_over_each_sequence(counts: list[int], scale: float) -> None:
    pool = AttentionPooling(WIDTH)
    torch.manual_seed(1)
    nn.init.normal_(pool.score.weight)
    hidden_PD = hidden(counts, scale)
    found = pool(hidden_PD, counts)
    for part, mean in zip(hidden_PD.split(counts), found, strict=True):
        weights = pool.score(part).softmax(dim=0)
        expected = (weights * part).sum(dim=0) if len(part) else torch.zeros(WIDTH)
        torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-4)


def test_attention_starts_from_the_mean_and_learns() -> None:
    counts, hidden_PD = [3, 1, 4], hidden([3, 1, 4])
    pool = AttentionPooling(WIDTH)
    torch.testing.assert_close(pool(hidden_PD, counts), MeanPooling()(hidden_PD, counts))
    pool(hidden_PD, counts).square().sum().backward()
    assert pool.score.weight.grad is not None and pool.score.weight.grad.abs().sum() > 0


def test_gradients_are_those_of_the_definition() -> None:
    counts = [3, 2]
    hidden_PD = hidden(counts).double().requires_grad_()
    pool = AttentionPooling(WIDTH).double()
    torch.manual_seed(2)
    nn.init.normal_(pool.score.weight)
    weight = pool.score.weight

    def by_definition(hidden_PD: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.stack([((part @ weight.T).softmax(dim=0) * part).sum(dim=0) for part in hidden_PD.split(counts)])

    found = torch.autograd.grad(pool(hidden_PD, counts).square().sum(), (hidden_PD, weight))
    expected = torch.autograd.grad(by_definition(hidden_PD, weight).square().sum(), (hidden_PD, weight))
    for one, other in zip(found, expected, strict=True):
        # The scores are float32, so that they are so under autocast, too.
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
@pytest.mark.parametrize("packing", ["packed", "padded"])
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_a_text_has_the_same_outputs_alone_and_in_a_batch(pooling: Any, packing: Any, attention: Any) -> None:
    settings = {"n_layer": 2, "n_embd": 32, "n_head": 2}
    config = BackboneConfig(name="nano", init="random", config=settings, packing=packing, attention=attention)
    backbone = load_backbone(config, create_host(), seed=1).eval()
    torch.manual_seed(0)
    head = pooled(pooling, backbone.width, nn.Linear(backbone.width, 3)).eval()
    generator = np.random.default_rng(0)
    features = []
    for length in (4, 17, 1, 9, 17):  # not the longest first, as a batch has them
        one = Features(generator.integers(5, 90, size=length))
        features.append(one if pooling == "last" else one.read_everywhere())

    def outputs(some: list[Features]) -> dict[int, torch.Tensor]:
        batch = pack(some, lambda _: None)
        with torch.no_grad():
            found = run_head(head, backbone(batch), batch)
        return {id(one): row for one, row in zip(batch.features, found, strict=True)}

    together = outputs(features)
    for one in features:
        torch.testing.assert_close(together[id(one)], outputs([one])[id(one)], rtol=1e-4, atol=1e-5)
