"""Products of fp32 matrices by either library: the same numbers, whatever lies how in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vertebra.engine import products
from vertebra.engine.prepacked import can_prepack
from vertebra.engine.products import add_product, prefers_onednn, product


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    prefers_onednn.cache_clear()
    yield
    prefers_onednn.cache_clear()


needs_onednn = pytest.mark.skipif(not can_prepack(torch.float32), reason="torch has no oneDNN here")


@needs_onednn
@given(
    rows=st.integers(0, 9).map(lambda eighths: 8 * eighths),
    inputs=st.integers(1, 9).map(lambda eighths: 8 * eighths),
    outputs=st.integers(1, 70),
    turned=st.tuples(st.booleans(), st.booleans()),
    biased=st.booleans(),
)
def test_both_libraries_give_the_same_whatever_lies_how(rows, inputs, outputs, turned, biased):
    generator = torch.Generator().manual_seed(rows + inputs + outputs)
    x = (
        torch.randn((inputs, rows), generator=generator).T
        if turned[0]
        else torch.randn((rows, inputs), generator=generator)
    )
    weight = (
        torch.randn((outputs, inputs), generator=generator).T
        if turned[1]
        else torch.randn((inputs, outputs), generator=generator)
    )
    bias = torch.randn(outputs, generator=generator) if biased else None
    expected = x.double() @ weight.double() + (0 if bias is None else bias.double())
    for onednn in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(products, "prefers_onednn", lambda chosen=onednn: chosen)
            found = product(x, weight, bias)
        assert found.shape == (rows, outputs)
        torch.testing.assert_close(found, expected.float(), atol=2e-5, rtol=1e-5)


@needs_onednn
def test_a_bias_may_lie_as_it_likes(monkeypatch):
    monkeypatch.setattr(products, "prefers_onednn", lambda: True)
    x, weight, bias = torch.randn(8, 16), torch.randn(16, 24), torch.randn(48)[::2]
    torch.testing.assert_close(product(x, weight, bias), x @ weight + bias, atol=1e-5, rtol=1e-5)
    one = torch.ones(1).expand(24)
    torch.testing.assert_close(product(x, weight, one), x @ weight + 1, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("onednn", [True, False])
def test_a_product_is_added_to_a_sum(monkeypatch, onednn):
    if onednn and not can_prepack(torch.float32):
        pytest.skip("torch has no oneDNN here")
    monkeypatch.setattr(products, "prefers_onednn", lambda: onednn)
    for dtype in (torch.float32, torch.bfloat16):
        total, x, weight = torch.randn(8, 24), torch.randn(8, 16).to(dtype), torch.randn(16, 24).to(dtype)
        expected = total + (x @ weight)
        add_product(total, x, weight)
        torch.testing.assert_close(total, expected, atol=1e-5, rtol=1e-5)


def test_onednn_gets_no_sizes_that_never_come_again(monkeypatch):
    monkeypatch.setattr(products, "prefers_onednn", lambda: True)
    monkeypatch.setattr(products.prepacked, "linear", None)  # it would be called
    for rows, inputs in ((7, 16), (16, 7)):
        x, weight = torch.randn(rows, inputs), torch.randn(inputs, 8)
        assert torch.equal(product(x, weight), x @ weight)


def test_other_types_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(products, "prefers_onednn", lambda: True)
    x, weight = torch.randn(3, 4).bfloat16(), torch.randn(4, 5).bfloat16()
    assert torch.equal(product(x, weight), x @ weight)


@pytest.mark.parametrize(("vendor", "chosen"), [("AuthenticAMD", True), ("GenuineIntel", False), ("", False)])
def test_the_processor_decides(monkeypatch, vendor, chosen):
    monkeypatch.setattr(products, "_vendor", lambda: vendor)
    assert prefers_onednn() is (chosen and torch.backends.mkl.is_available() and can_prepack(torch.float32))
