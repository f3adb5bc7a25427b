"""Adversarial training: the gradients are those of the paper's two losses, and the embeddings stay where they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vertebra.cli.main import main
from vertebra.engine.adversarial import FastGradient

FEW = ["task=sentiment", "gpu=cpu", "gpu.threads=1", "data.limit=16", "trainer.batch_size=8", "trainer.max_steps=2"]


class Small(nn.Module):
    """A model whose embeddings are where a run's are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(11, 4), nn.Linear(4, 1)
        self.backbone = SimpleNamespace(model=SimpleNamespace(get_input_embeddings=lambda: self.embedding))

    def loss(self, ids: Tensor) -> Callable[[], Tensor]:
        return lambda: self.head(self.embedding(ids).tanh()).square().sum()


def learn(behaviour: FastGradient, model: Small, compute_loss: Callable[[], Tensor]) -> None:
    """Do what the trainer does with a piece."""
    loss = compute_loss()
    behaviour.backward_starting(model=model)
    loss.backward()
    behaviour.backward_ended(model=model, compute_loss=compute_loss)


def gradients(model: Small, compute_loss: Callable[[], Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(compute_loss(), list(model.parameters())))


def expected(model: Small, compute_loss: Callable[[], Tensor]) -> list[Tensor]:
    """Return the sum of both losses' gradients, by the formula."""
    clean, weight = gradients(model, compute_loss), model.embedding.weight
    before = weight.detach().clone()
    weight.data = before + clean[0] / clean[0].norm()
    moved = gradients(model, compute_loss)
    weight.data = before
    return [one + other for one, other in zip(clean, moved, strict=True)]


def test_each_piece_is_learnt_where_it_is_and_where_its_own_gradient_leads() -> None:
    model, behaviour = Small(), FastGradient()
    pieces = [model.loss(torch.tensor(ids)) for ids in ([1, 2, 2], [5, 9], [2, 10])]
    wanted = [sum(parts) for parts in zip(*(expected(model, piece) for piece in pieces), strict=True)]
    before = model.embedding.weight.detach().clone()
    for piece in pieces:
        learn(behaviour, model, piece)
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert torch.equal(model.embedding.weight, before)


def test_the_embeddings_are_moved_back_where_the_second_pass_fails() -> None:
    model, behaviour = Small(), FastGradient()
    compute_loss, before = model.loss(torch.tensor([1, 2])), model.embedding.weight.detach().clone()
    behaviour.backward_starting(model=model)
    compute_loss().backward()

    def fail() -> Tensor:
        assert not torch.equal(model.embedding.weight, before)
        raise MemoryError

    with pytest.raises(MemoryError):
        behaviour.backward_ended(model=model, compute_loss=fail)
    assert torch.equal(model.embedding.weight, before)


def test_a_gradient_of_nothing_moves_nothing() -> None:
    model, behaviour = Small(), FastGradient()
    learn(behaviour, model, lambda: model.embedding.weight.sum() * 0.0)
    assert model.embedding.weight.grad is not None and not model.embedding.weight.grad.any()


def test_a_run_learns_otherwise_from_its_second_step_on(tmp_path: Path) -> None:
    def losses(name: str, *more: str) -> list[Any]:
        assert main(["train", *FEW, *more, "trainer.log_every=1", f"hydra.run.dir={tmp_path / name}"]) == 0
        lines = (tmp_path / name / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["loss"] for line in lines]

    plain, moved = losses("plain"), losses("moved", "trainer.behaviours=[fgm]")
    assert plain[0] == moved[0] and plain[1] != moved[1]


@pytest.mark.parametrize("part", ["adapter=lora", "adapter=top_layers", "backbone.freeze=true"])
def test_what_leaves_the_embeddings_alone_is_refused_before_anything_is_made(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", *FEW, part, "trainer.behaviours=[fgm]", f"hydra.run.dir={run}"]) == 2
    assert "trainer.behaviours=fgm does not go with adapter=" in capsys.readouterr().err
    assert not run.exists()
