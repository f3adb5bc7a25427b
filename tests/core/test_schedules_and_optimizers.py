"""Schedules rise and fall as they say; parameters are grouped by rate and decay."""

from __future__ import annotations

import pytest
import tiny_models as tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from vertebra.config.schema import TrainerConfig
from vertebra.engine import schedules
from vertebra.engine.optimizers import adamw, parameter_groups, sgd


@given(st.integers(1, 300), st.floats(0, 0.9))
def test_schedules_start_low_reach_the_peak_and_stay_within(total: int, share: float) -> None:
    warmup = round(share * total)
    for schedule in (schedules.linear, schedules.cosine, schedules.constant):
        factors = [schedule(step, warmup, total) for step in range(total)]
        assert all(0 < factor <= 1 for factor in factors)
        assert max(factors) == pytest.approx(1) if warmup < total else True
        assert factors[:warmup] == sorted(factors[:warmup])
        assert factors[warmup:] == sorted(factors[warmup:], reverse=True)


@pytest.mark.parametrize(
    ("own", "theirs"),
    [(schedules.linear, get_linear_schedule_with_warmup), (schedules.cosine, get_cosine_schedule_with_warmup)],
)
def test_without_warmup_schedules_equal_transformers(own, theirs) -> None:  # type: ignore[no-untyped-def]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = theirs(optimizer, 0, 20)
    for step in range(20):
        assert own(step, 0, 20) == pytest.approx(reference.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        reference.step()


class Whole(nn.Module):
    def __init__(self, family: str) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"model": tiny.model(family)})
        self.heads = nn.ModuleDict({"t": nn.Linear(32, 3)})


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_layers_learn_slower_the_lower_they_are_and_norms_do_not_decay(family: str) -> None:
    model = Whole(family)
    config = TrainerConfig(layer_decay=0.5, head_learning_rate=0.3, weight_decay=0.1)
    groups = parameter_groups(model, config, 1.0)
    by_parameter = {id(p): group for group in groups for p in group["params"]}
    assert len(by_parameter) == sum(1 for _ in model.parameters())
    rates = {}
    for name, parameter in model.named_parameters():
        group = by_parameter[id(parameter)]
        assert group["weight_decay"] == (0.0 if parameter.ndim < 2 else 0.1), name
        rates[name] = group["lr"]
    assert {rate for name, rate in rates.items() if name.startswith("heads")} == {0.3}
    assert {rate for name, rate in rates.items() if ".0." in name} == {0.5}
    assert {rate for name, rate in rates.items() if ".1." in name} == {1.0}
    embeddings = [rate for name, rate in rates.items() if "wte" in name or "embed" in name]
    assert embeddings and set(embeddings) == {0.25}


@pytest.mark.parametrize("make", [adamw, sgd])
def test_optimizers_learn(make) -> None:  # type: ignore[no-untyped-def]
    layer = nn.Linear(4, 1)
    optimizer = make([{"params": list(layer.parameters()), "lr": 0.05, "weight_decay": 0.0}], TrainerConfig())
    inputs, target = torch.randn(64, 4), torch.randn(64, 1)
    losses = []
    for _ in range(30):
        loss = (layer(inputs) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
