"""The Fisher information of a task, and the pull by it: against one row at a time in plain torch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny_models as tiny
import torch
from test_trainer import Parity, rows_of
from torch import Tensor, nn

from vertebra.config.schema import GPUConfig
from vertebra.engine.backbone import Backbone, BackboneInfo
from vertebra.engine.devices import set_up
from vertebra.engine.fisher import fisher_diagonal
from vertebra.engine.model import TaskModel
from vertebra.engine.starting_point import StartingPoint
from vertebra.tasks.heads import Dropout


class Dropping(Parity):
    """Has dropout in its head, which must not act."""

    def build_head(self, width: int) -> nn.Module:
        return nn.Sequential(Dropout(0.5), nn.Linear(width, 2))


def task_model(layers: str, packing: str = "packed") -> TaskModel:
    model = tiny.model("gpt2")
    model.config.resid_pdrop = 0.5
    info = BackboneInfo("gpt2", 0, "random", "causal", packing, layers, tiny.CONTEXT, "", ())  # type: ignore[arg-type]
    torch.manual_seed(0)
    return TaskModel(Backbone(model, None, info), {"parity": Dropping().build_head(32)})  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", ["written out", "transformers"])
def test_it_is_the_mean_of_the_squared_gradients_of_each_row(layers: str) -> None:
    model, rows = task_model(layers), [row["ids"] for row in rows_of(6)]
    expected = {name: torch.zeros_like(one) for name, one in model.backbone.named_parameters()}
    transformer, head = model.backbone.model.eval(), model.heads["parity"][1]  # type: ignore[index]
    for ids in rows:
        logits = head(transformer(torch.tensor([ids])).last_hidden_state[0])
        loss = nn.functional.cross_entropy(logits, torch.tensor(ids) % 2, reduction="sum")
        gradients = torch.autograd.grad(loss, list(model.backbone.parameters()))
        for total, gradient in zip(expected.values(), gradients, strict=True):
            total += gradient**2 / len(rows)

    # The longest row comes as two sequences, which are one row all the same.
    task = Dropping()
    examples = [[task.encode({"ids": ids}, None)] for ids in rows]
    longest = max(examples, key=lambda row: len(row[0]))
    (long,), half = longest, len(longest[0]) // 2
    longest[:] = [
        replace(long, input_ids=long.input_ids[:half], target=long.target[:half], positions=range(half)),
        replace(long, target=long.target[half:], positions=range(half, len(long))),
    ]
    devices = set_up(GPUConfig(device="cpu", precision="bf16", threads=1, token_budget=12))
    found = fisher_diagonal(model, task, examples, devices)
    assert found.keys() == expected.keys()
    for name, fisher in found.items():
        assert fisher.dtype == torch.float32
        torch.testing.assert_close(fisher, expected[name], rtol=1e-3, atol=1e-9)
    assert sum(float(fisher.sum()) for fisher in found.values()) > 0
    assert all(one.grad is None for one in model.parameters())


def pulled(l2sp: float, ewc: float = 0.0, fisher: dict[str, Tensor] | None = None) -> list[Tensor]:
    """Return the gradients of the penalty alone, of a backbone whose weights have moved."""
    model = task_model("transformers")
    start = StartingPoint(model.backbone, l2sp, ewc, fisher)
    torch.manual_seed(1)
    with torch.no_grad():
        for one in model.backbone.parameters():
            one.add_(torch.randn_like(one))
    start.add_gradients()
    return [one.grad for one in model.backbone.parameters() if one.grad is not None]


def test_where_every_weight_matters_the_same_it_is_l2sp() -> None:
    ones = {name: torch.ones_like(one) for name, one in task_model("transformers").backbone.named_parameters()}
    for one, other in zip(pulled(0.3), pulled(0.0, 0.3, ones), strict=True):
        assert torch.equal(one, other)


def test_each_weight_is_pulled_by_how_much_it_matters_besides_l2sp() -> None:
    model = task_model("transformers")
    torch.manual_seed(2)
    fisher = {name: torch.rand_like(one) for name, one in model.backbone.named_parameters()}
    first = {name: one.detach().clone() for name, one in model.backbone.named_parameters()}
    torch.manual_seed(1)
    now = {name: (one + torch.randn_like(one)).detach().requires_grad_() for name, one in first.items()}
    penalty = sum(((0.1 + 2.0 * fisher[name]) / 2 * (one - first[name]) ** 2).sum() for name, one in now.items())
    expected = torch.autograd.grad(penalty, list(now.values()))  # type: ignore[arg-type]
    for one, other in zip(pulled(0.1, 2.0, fisher), expected, strict=True):
        torch.testing.assert_close(one, other)
