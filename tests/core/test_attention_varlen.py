"""The varlen kernel, in each of its three signatures, gives what SDPA by groups gives; where it would not, it is not used.

The kernel itself needs a GPU (tests/gpu); here a plain computation stands in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny_models as tiny
import torch
from torch import Tensor

from vertebra.engine import attention_varlen
from vertebra.engine.attention import PACKED
from vertebra.engine.attention_options import Options
from vertebra.engine.attention_varlen import attend_varlen, keywords, why_not
from vertebra.engine.backbone import run_packed
from vertebra.engine.directions import Attention
from vertebra.engine.loading import checkpoint_activations
from vertebra.engine.packing import pack

LENGTHS = [1, tiny.CONTEXT, 7, 7, 3, 1, 12]


def plainly(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, window: tuple[int, int], scale: float | None
) -> Tensor:
    """Attend sequence by sequence, written out."""
    outputs = []
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        scores = torch.einsum("qhd,khd->hqk", query[start:end], key[start:end])
        scores = scores * (query.shape[-1] ** -0.5 if scale is None else scale)
        row, column = torch.arange(end - start)[:, None], torch.arange(end - start)
        left, right = window
        unseen = torch.zeros_like(scores[0], dtype=torch.bool)
        if left >= 0:
            unseen |= column < row - left
        if right >= 0:
            unseen |= column > row + right
        scores = scores.masked_fill(unseen, -torch.inf)
        outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), value[start:end]))
    return torch.cat(outputs)


class Kernels:
    """Stands for the kernel in the signatures of torch 2.10, 2.11 and 2.12, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.asked: dict[str, Any] = {}

    def _run(self, *tensors: Any, window: tuple[int, int], scale: float | None = None, **asked: Any) -> Tensor:
        self.calls += 1
        self.asked = {"window": window, "scale": scale, **asked}
        query, key, value, starts = tensors
        assert starts.dtype == torch.int32
        return plainly(query, key, value, starts, window, scale)

    def torch_2_10(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        is_causal: bool = False,
        return_aux: None = None,
    ) -> Tensor:
        assert query.shape[1] == key.shape[1]
        return self._run(query, key, value, cu_seq_q, window=(-1, 0) if is_causal else (-1, -1))

    def torch_2_11(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        return_aux: None = None,
        scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
    ) -> Tensor:
        assert query.shape[1] == key.shape[1]
        return self._run(query, key, value, cu_seq_q, window=window_size, scale=scale)

    def torch_2_12(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor | None,
        max_q: int,
        max_k: int,
        *,
        return_aux: None = None,
        scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
        enable_gqa: bool = False,
        seqused_k: Tensor | None = None,
        block_table: Tensor | None = None,
        num_splits: int | None = None,
    ) -> Tensor:
        assert enable_gqa == (query.shape[1] != key.shape[1])
        if enable_gqa:
            key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], dim=1) for one in (key, value))
        return self._run(query, key, value, cu_seq_q, window=window_size, scale=scale)


VERSIONS: list[Callable[[Kernels], Callable[..., Tensor]]] = [
    lambda kernels: kernels.torch_2_10,
    lambda kernels: kernels.torch_2_11,
    lambda kernels: kernels.torch_2_12,
]
NAMES = ["2.10", "2.11", "2.12"]


@pytest.fixture
def on_this_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU in fp32 pass for a GPU in bf16."""
    monkeypatch.setattr(attention_varlen, "DEVICES", ("cpu",))
    monkeypatch.setattr(attention_varlen, "DTYPES", (torch.float32,))


def hidden_and_gradients(model: torch.nn.Module, attention: Attention) -> list[Tensor]:
    model.zero_grad()
    hidden = run_packed(model, pack(tiny.sequences(LENGTHS), lambda _: None), attention)  # type: ignore[arg-type]
    (hidden @ torch.linspace(-1, 2, hidden.shape[1]).sin()).square().mean().backward()
    return [hidden.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < 1e-5 * other.norm().clamp(min=1e-3)


@pytest.mark.usefixtures("on_this_device")
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral"])
@pytest.mark.parametrize("version", VERSIONS, ids=NAMES)
def test_the_kernel_gives_what_groups_give(
    version: Callable[[Kernels], Callable[..., Tensor]],
    family: str,
    attention: Attention,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny.model(family)
    model.set_attn_implementation(PACKED)
    monkeypatch.setattr(attention_varlen, "find_kernel", lambda: None)
    expected = hidden_and_gradients(model, attention)

    kernels = Kernels()
    kernel = version(kernels)
    monkeypatch.setattr(attention_varlen, "find_kernel", lambda: kernel)
    found = hidden_and_gradients(model, attention)
    assert_equal(found, expected)
    windowed = family == "mistral"
    assert (kernels.calls > 0) == (not windowed or "2_10" not in kernel.__name__)
    if windowed and kernels.calls:
        assert kernels.asked["window"] == ((5, 0) if attention == "causal" else (6, 6))


@pytest.mark.usefixtures("on_this_device")
def test_it_is_tried_once_also_under_gradient_checkpointing(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = Kernels()
    kernel = kernels.torch_2_12
    monkeypatch.setattr(attention_varlen, "find_kernel", lambda: kernel)
    model = tiny.model("llama")
    model.set_attn_implementation(PACKED)
    model.train()
    checkpoint_activations(model)
    found = hidden_and_gradients(model, "causal")
    tried, forward, again = 1, 2, 2
    assert kernels.calls == tried + forward + again
    monkeypatch.setattr(attention_varlen, "find_kernel", lambda: None)
    assert_equal(found, hidden_and_gradients(model, "causal"))


@pytest.mark.usefixtures("on_this_device")
def test_it_is_tried_in_inference_mode_too(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = Kernels()
    kernel = kernels.torch_2_12
    monkeypatch.setattr(attention_varlen, "find_kernel", lambda: kernel)
    with torch.inference_mode():
        assert attend() is not None


def attend(
    query: Tensor | None = None, *, dropout: float = 0.0, scaling: float | None = None, window: int | None = None
) -> Tensor | None:
    query = torch.randn(1, 4, 12, 8) if query is None else query
    key, value = torch.randn(2, 1, 2, 12, 8, dtype=query.dtype)
    batch = pack(tiny.sequences([7, 5]), lambda _: None)
    return attend_varlen(query, key, value, batch, Options(scaling, dropout, True, window))


def test_what_the_kernel_does_not_compute_is_left_to_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = Kernels()
    kernel = kernels.torch_2_12
    monkeypatch.setattr(attention_varlen, "find_kernel", lambda: kernel)
    assert attend(torch.randn(1, 4, 12, 8, dtype=torch.bfloat16)) is None  # not on a GPU
    monkeypatch.setattr(attention_varlen, "DEVICES", ("cpu",))
    assert attend() is None  # fp32
    monkeypatch.setattr(attention_varlen, "DTYPES", (torch.float32,))
    assert attend(dropout=0.1) is None
    assert attend() is not None
    monkeypatch.setattr(attention_varlen, "find_kernel", lambda: None)
    assert attend() is None  # torch before 2.10


def test_under_autocast_it_computes_in_autocasts_type(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = Kernels()
    kernel = kernels.torch_2_12
    monkeypatch.setattr(attention_varlen, "DEVICES", ("cpu",))
    monkeypatch.setattr(attention_varlen, "find_kernel", lambda: kernel)
    assert attend() is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attend()  # rotary embeddings leave fp32 queries, which the real kernel refuses
    assert out is not None and out.dtype == torch.bfloat16


@pytest.mark.usefixtures("on_this_device")
@pytest.mark.parametrize("failure", ["wrong numbers", "refuses"])
def test_a_kernel_that_does_not_hold_is_not_used_and_one_line_says_so(
    failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kernel(*tensors: Any, window_size: tuple[int, int], enable_gqa: bool) -> Tensor:
        if failure == "refuses":
            raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.\nmore")
        return Kernels().torch_2_12(*tensors, window_size=(-1, -1), enable_gqa=enable_gqa)  # sees what comes behind

    monkeypatch.setattr(attention_varlen, "find_kernel", lambda: kernel)
    reason = "only supports Ampere" if failure == "refuses" else "its numbers are not"
    with pytest.warns(UserWarning, match=rf"4 heads of width 8 here \(.*{reason}") as caught:
        assert attend() is None
    assert "\n" not in str(caught[0].message)
    assert attend() is None  # and does not say it again


def test_a_scale_that_the_kernel_cannot_apply_is_left_to_groups() -> None:
    kernels = Kernels()
    own = attention_varlen.Request(4, 4, 16, 0.25, True, None, torch.bfloat16, torch.device("cpu"))
    other = attention_varlen.Request(4, 4, 16, 1.0, True, None, torch.bfloat16, torch.device("cpu"))
    assert keywords(kernels.torch_2_10, own) == {"is_causal": True}
    assert keywords(kernels.torch_2_10, other) is None
    assert keywords(kernels.torch_2_11, other) == {"window_size": (-1, 0), "scale": 1.0}


def test_one_line_says_why_a_run_does_not_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    llama, gpt2 = tiny.config("llama"), tiny.config("gpt2")
    monkeypatch.setattr(attention_varlen, "find_kernel", lambda: Kernels().torch_2_12)
    assert why_not(llama, torch.bfloat16) is None and why_not(gpt2, torch.bfloat16) is None
    assert "gpu.precision=bf16" in str(why_not(llama, torch.float32))
    gpt2.attn_pdrop = 0.1
    assert "no dropout (backbone.config={attn_pdrop: 0}" in str(why_not(gpt2, torch.bfloat16))
    monkeypatch.setattr(attention_varlen, "find_kernel", lambda: None)
    assert "has no varlen kernel" in str(why_not(llama, torch.bfloat16))
