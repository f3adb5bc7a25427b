"""Schedules rise and fall as they say; parameters are grouped by rate and decay."""

from __future__ import annotations

import copy

import pytest
import tiny_models as tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from vertebra.config.schema import TrainerConfig
from vertebra.engine import schedules
from vertebra.engine.adamw import AdamW
from vertebra.engine.gradients import clip_gradients
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
        embedding = any(part in name for part in ("wte", "wpe", "embed"))
        assert group["weight_decay"] == (0.0 if parameter.ndim < 2 or embedding else 0.1), name
        rates[name] = group["lr"]
    assert {rate for name, rate in rates.items() if name.startswith("heads")} == {0.3}
    assert {rate for name, rate in rates.items() if ".0." in name} == {0.5}
    assert {rate for name, rate in rates.items() if ".1." in name} == {1.0}
    embeddings = [rate for name, rate in rates.items() if "wte" in name or "embed" in name]
    assert embeddings and set(embeddings) == {0.25}


@pytest.mark.parametrize("head_rate", [None, 0.3])
def test_what_is_a_task_s_own_learns_at_the_task_s_rate(head_rate: float | None) -> None:
    model = nn.ModuleDict(
        {
            "backbone": nn.ModuleDict({"shared": nn.Linear(2, 2)}),
            "heads": nn.ModuleDict({"few": nn.Linear(2, 3), "many": nn.Linear(2, 3)}),
            "adapted": nn.ModuleDict({"few": nn.Linear(2, 2), "many": nn.Linear(2, 2)}),
        }
    )
    groups = parameter_groups(model, TrainerConfig(head_learning_rate=head_rate), 0.1, {"few": 0.5, "many": 1.0})
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    found = {name.rpartition(".")[0]: rates[id(parameter)] for name, parameter in model.named_parameters()}
    assert found == {
        "backbone.shared": 0.1,
        "heads.few": head_rate or 0.05,
        "heads.many": head_rate or 0.1,
        "adapted.few": 0.05,
        "adapted.many": 0.1,
    }


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


@pytest.mark.parametrize("limit", [None, 0.05])
def test_rows_alone_learn_what_a_whole_embedding_learns(limit: float | None) -> None:
    torch.manual_seed(0)
    whole, rows_alone = nn.Embedding(50, 8), nn.Embedding(50, 8, sparse=True)
    rows_alone.load_state_dict(whole.state_dict())
    head = nn.Linear(8, 1)
    heads = [head, copy.deepcopy(head)]
    used = torch.tensor([2, 3, 11, 17, 40])
    modules = [nn.ModuleList(pair) for pair in zip((whole, rows_alone), heads, strict=True)]
    reference = torch.optim.AdamW(modules[0].parameters(), lr=0.1, weight_decay=0.0)
    optimizer = AdamW([{"params": list(modules[1].parameters()), "lr": 0.1, "weight_decay": 0.0}], (0.9, 0.999), 1e-8)
    assert optimizer.take_rows(rows_alone.weight, used)
    for step in range(12):
        ids = used[torch.randint(len(used), (6,))] if step != 5 else used[:1].repeat(4)
        for (embedding, layer), one in zip(modules, (reference, optimizer), strict=True):
            for part in ids.chunk(2):  # gradients of several pieces add up
                layer(embedding(part)).sin().sum().backward()
            norm = clip_gradients([*embedding.parameters(), *layer.parameters()], limit)
            one.step()
            one.zero_grad()
            if limit is not None:
                assert norm > limit
    torch.testing.assert_close(rows_alone.weight, whole.weight)
    torch.testing.assert_close(heads[1].weight, heads[0].weight)
    assert optimizer.state[rows_alone.weight]["exp_avg"].shape == (5, 8)


def test_decay_moves_every_row_so_that_none_can_be_left_out() -> None:
    embedding = nn.Embedding(50, 8)
    optimizer = AdamW([{"params": list(embedding.parameters()), "lr": 0.1, "weight_decay": 0.1}], (0.9, 0.999), 1e-8)
    assert not optimizer.take_rows(embedding.weight, torch.tensor([1]))


def test_the_norm_of_gradients_is_torchs() -> None:
    layers = nn.ModuleList([nn.Linear(4, 3), nn.Linear(3, 2)])
    layers[1](layers[0](torch.randn(5, 4))).sum().backward()
    copied = copy.deepcopy(layers)
    for one, other in zip(layers.parameters(), copied.parameters(), strict=True):
        assert one.grad is not None
        other.grad = one.grad.clone()
    torch.testing.assert_close(
        clip_gradients(layers.parameters(), 0.1), nn.utils.clip_grad_norm_(copied.parameters(), 0.1)
    )
    for one, other in zip(layers.parameters(), copied.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
