"""The loss without its logits: the numbers and gradients of the plain one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vertebra.engine.cross_entropy import linear_cross_entropy


def inputs(
    positions: int, width: int = 12, vocabulary: int = 40, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, a matrix, a bias, and targets."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(positions, width, generator=generator)
    weight = torch.randn(vocabulary, width, generator=generator)
    bias = torch.randn(vocabulary, generator=generator)
    targets = torch.randint(0, vocabulary, (positions,), generator=generator)
    return hidden, weight, bias, targets


@given(
    positions=st.integers(1, 30),
    chunk=st.integers(1, 40),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    biased=st.booleans(),
    upstream=st.floats(0.01, 100.0),
)
def test_loss_and_gradients_are_those_of_torch(
    positions: int, chunk: int, smoothing: float, biased: bool, upstream: float
) -> None:
    *leaves, targets = inputs(positions)
    ours, theirs = ([one.clone().requires_grad_() for one in leaves] for _ in "ab")
    found = linear_cross_entropy(ours[0], ours[1], ours[2] if biased else None, targets, smoothing, chunk)
    logits = F.linear(theirs[0], theirs[1], theirs[2] if biased else None)
    expected = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    (found * upstream).backward()
    (expected * upstream).backward()
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)
    for one, other in zip(ours[: 2 + biased], theirs, strict=False):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=1e-5, atol=1e-6 * upstream)


def test_the_gradient_of_a_matrix_that_is_an_embedding_too_is_the_sum_of_both() -> None:
    _, weight, _, targets = inputs(9)
    grads = []
    for chunked in (True, False):
        tied = weight.clone().requires_grad_()
        hidden = torch.tanh(F.embedding(targets.flip(0), tied))
        loss = (
            linear_cross_entropy(hidden, tied, None, targets, chunk=4)
            if chunked
            else F.cross_entropy(hidden @ tied.t(), targets)
        )
        loss.backward()
        grads.append(tied.grad)
    assert torch.allclose(grads[0], grads[1], atol=1e-6)


def test_what_is_not_trained_gets_no_gradient_and_none_is_made_without_need() -> None:
    hidden, weight, _, targets = inputs(7)
    trained = weight.clone().requires_grad_()
    linear_cross_entropy(hidden, trained, None, targets).backward()
    assert hidden.grad is None
    with torch.no_grad():
        loss = linear_cross_entropy(hidden, trained, None, targets)
    assert not loss.requires_grad


@pytest.mark.parametrize("autocast", [True, False])
def test_bf16_is_near_fp32(autocast: bool) -> None:
    hidden, weight, _, targets = inputs(50)
    exact = linear_cross_entropy(hidden, weight, None, targets)
    kind = torch.float32 if autocast else torch.bfloat16
    low = weight.to(kind).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = linear_cross_entropy(hidden.to(kind), low, None, targets)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)
    assert low.grad is not None
    assert low.grad.dtype == kind
