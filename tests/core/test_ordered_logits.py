"""Ordered labels: probabilities that are some, and thresholds that stay in order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vertebra.tasks.ordered_logits import OrderedLogits


@given(st.integers(2, 9), st.floats(-30, 30))
def test_probabilities_are_the_differences_of_sigmoids(labels: int, score: float) -> None:
    layer = OrderedLogits(1, labels)
    torch.nn.init.ones_(layer.score.weight)
    found = layer(torch.tensor([[score]])).exp().double().squeeze(0)
    rises = torch.nn.functional.softplus(layer.gaps.detach().double())
    thresholds = layer.first.detach().double() + torch.cat([torch.zeros(1), rises.cumsum(0)])
    up_to = torch.cat([torch.zeros(1), torch.sigmoid(thresholds - score), torch.ones(1)])
    torch.testing.assert_close(found, up_to.diff(), rtol=1e-3, atol=1e-6)
    assert found.sum().item() == pytest.approx(1, abs=1e-5)


def test_all_labels_are_equally_likely_at_the_start() -> None:
    for labels in (2, 3, 5, 11):
        found = OrderedLogits(4, labels)(torch.zeros(2, 4)).exp()
        torch.testing.assert_close(found, torch.full((2, labels), 1 / labels))


@pytest.mark.parametrize("score", [-1e4, 0.0, 1e4])
def test_the_loss_of_the_least_likely_label_is_finite_and_has_a_gradient(score: float) -> None:
    layer = OrderedLogits(1, 5)
    torch.nn.init.ones_(layer.score.weight)
    hidden = torch.tensor([[score]], requires_grad=True)
    for label in range(5):
        loss = torch.nn.functional.cross_entropy(layer(hidden), torch.tensor([label]))
        gradients = torch.autograd.grad(loss, [hidden, *layer.parameters()])
        assert torch.isfinite(loss) and all(torch.isfinite(one).all() for one in gradients)


def test_a_scale_is_learnt() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(400, 3)
    truth = torch.bucketize(hidden[:, 0] * 2 + 0.2 * torch.randn(400), torch.tensor([-2.0, 0.0, 1.0]))
    layer = OrderedLogits(3, 4)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(hidden), truth).backward()
        optimizer.step()
    assert (layer(hidden).argmax(1) == truth).float().mean() > 0.85
