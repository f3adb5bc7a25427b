"""Attention by plain batched products gives what torch's kernel gives, and its gradients what autograd finds."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vertebra.engine import attention_products
from vertebra.engine.attention_products import attend_by_products


def heads_of(seed: int, n: int, heads: int, length: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    # as they lie in a stream: heads of a token side by side
    joined = torch.randn((n, length, 3, heads, 8), generator=generator).to(dtype)
    return [one.detach().requires_grad_() for one in joined.permute(2, 0, 3, 1, 4).unbind(0)]


def future(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).triu(1)


@given(
    seed=st.integers(0, 99),
    n=st.integers(1, 4),
    heads=st.integers(1, 3),
    length=st.integers(1, 20),
    kind=st.sampled_from(["none", "causal", "padding"]),
    scale=st.sampled_from([None, 0.3]),
)
def test_values_and_gradients_are_those_of_torchs_kernel(seed, n, heads, length, kind, scale):
    hidden = None
    if kind == "causal":
        hidden = future(length)
    elif kind == "padding":
        hidden = (torch.arange(length) >= torch.arange(1, n + 1)[:, None])[:, None, None, :]
    query, key, value = heads_of(seed, n, heads, length)
    found = attend_by_products(query, key, value, hidden, scale)
    mask = None if hidden is None else ~hidden
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(seed))
    for own, other in zip(
        torch.autograd.grad(found, (query, key, value), upstream),
        torch.autograd.grad(expected, (query, key, value), upstream),
        strict=True,
    ):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


def test_gradients_know_which_weights_were_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = heads_of(3, 2, 2, 7)
    keep = torch.empty(4, 7, 7).bernoulli_(0.5, generator=torch.Generator().manual_seed(1)) * 2
    monkeypatch.setattr(attention_products, "keep_mask", lambda like, dropout: keep)
    found = attend_by_products(query, key, value, future(7), dropout=0.5)
    scores = (query @ key.transpose(-1, -2) * 8**-0.5).masked_fill(future(7), -torch.inf)
    expected = (scores.softmax(-1) * keep.view(2, 2, 7, 7)) @ value
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    upstream = torch.linspace(-1, 1, found.numel()).view(found.shape)
    for own, other in zip(
        torch.autograd.grad(found, (query, key, value), upstream),
        torch.autograd.grad(expected, (query, key, value), upstream),
        strict=True,
    ):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


def test_bf16_is_within_its_own_rounding() -> None:
    with torch.no_grad():
        heads = heads_of(5, 6, 4, 20, torch.bfloat16)
        found = attend_by_products(*heads, future(20))
        expected = F.scaled_dot_product_attention(*(one.double() for one in heads), is_causal=True)
    assert found.dtype == torch.bfloat16
    assert float((found - expected).norm() / expected.norm()) < 2**-7
