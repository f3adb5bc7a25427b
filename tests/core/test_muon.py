"""Muon against torch's own, and what it leaves to AdamW."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import tiny_models as tiny
import torch
from torch import nn

from vertebra.config.schema import TrainerConfig
from vertebra.engine.adamw import AdamW
from vertebra.engine.muon import Muon, orthogonalize
from vertebra.engine.optimizers import muon, parameter_groups


class Whole(nn.Module):
    def __init__(self, family: str) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"model": tiny.model(family)})
        self.heads = nn.ModuleDict({"t": nn.Linear(32, 3)})


def optimizer_of(model: nn.Module) -> Muon:
    config = TrainerConfig(weight_decay=0.1)
    made = muon(parameter_groups(model, config, 1e-2), config)
    assert isinstance(made, Muon)
    return made


def give_gradients(models: list[nn.Module], step: int) -> None:
    torch.manual_seed(step)
    for parameters in zip(*(model.parameters() for model in models), strict=True):
        gradient = torch.randn_like(parameters[0])
        for parameter in parameters:
            parameter.grad = gradient.clone()


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_the_matrices_of_layers_are_muons_and_everything_else_is_adamws(family: str) -> None:
    model = Whole(family)
    hidden = {id(p) for group in optimizer_of(model).param_groups if group["hidden"] for p in group["params"]}
    named = dict(model.named_parameters())
    assert {name for name, p in named.items() if id(p) in hidden} == {
        name for name, p in named.items() if p.ndim == 2 and (".h." in name or ".layers." in name)
    }
    assert hidden


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.9 on")
def test_updates_are_those_of_torchs_muon_and_of_adamw() -> None:
    model = Whole("gpt2")
    other = copy.deepcopy(model)
    ours = optimizer_of(model)
    groups = parameter_groups(other, TrainerConfig(weight_decay=0.1), 1e-2)
    hidden = [group for group in groups if group["hidden"]]
    theirs = [
        torch.optim.Muon(
            [{name: group[name] for name in ("params", "lr", "weight_decay")} for group in hidden],
            momentum=0.95,
            adjust_lr_fn="match_rms_adamw",
        ),
        AdamW([group for group in groups if not group["hidden"]], betas=(0.9, 0.95), eps=1e-8),
    ]
    before = [p.detach().clone() for p in model.parameters()]
    for step in range(4):
        give_gradients([model, other], step)
        for optimizer in (ours, *theirs):
            optimizer.step()
    for start, own, their in zip(before, model.parameters(), other.parameters(), strict=True):
        moved = (their - start).norm()
        assert moved > 0
        assert (own - their).norm() < 0.01 * moved  # products in bf16


@pytest.mark.parametrize("shape", [(32, 32), (32, 96), (128, 32)])
def test_all_directions_of_an_update_are_of_like_size(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    matrix = left @ torch.diag(torch.logspace(0, -1.5, 32)) @ right
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert values.max() < 1.3 and values.min() > 0.5


def test_a_restored_state_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    model = Whole("gpt2")
    optimizer = optimizer_of(model)
    for step in range(2):
        give_gradients([model], step)
        optimizer.step()
    again = copy.deepcopy(model)
    restored = optimizer_of(again)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    restored.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    give_gradients([model, again], 2)
    optimizer.step()
    restored.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_matrices_without_a_gradient_stay_as_they_are() -> None:
    model = Whole("gpt2")
    before = copy.deepcopy(model)
    optimizer_of(model).step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))
