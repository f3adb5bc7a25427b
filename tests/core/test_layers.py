"""Layers written out for speed give what transformers' own layers give."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import pytest
import tiny_models as tiny
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from vertebra.engine import attention, prepacked
from vertebra.engine.attention import PACKED
from vertebra.engine.attention_options import Options
from vertebra.engine.backbone import rounded_to, run_packed, run_padded, run_written_out
from vertebra.engine.blocks import functions
from vertebra.engine.blocks.kernels import PrepackedKernels
from vertebra.engine.blocks.passes import find_pass
from vertebra.engine.directions import Attention
from vertebra.engine.loading import checkpoint_activations
from vertebra.engine.packing import PackedBatch, pack, rounded
from vertebra.engine.prepacked import can_prepack
from vertebra.engine.probes import choose_layers
from vertebra.tasks.features import Features

FAMILIES = ["gpt2", "llama", "mistral", "qwen2", "qwen3"]
ATTENTIONS: list[Attention] = ["causal", "bidirectional"]


def collate(features: Sequence[Features]) -> Tensor:
    return torch.tensor([value for one in features for value in one.target])


@pytest.fixture
def batch() -> PackedBatch:
    return pack(tiny.sequences([1, tiny.CONTEXT, 7, 7, 3, 1, 12, 20, 25]), collate)


def packed_model(family: str) -> PreTrainedModel:
    model = tiny.model(family)
    model.set_attn_implementation(PACKED)
    return model


def loss_and_gradients(model: nn.Module, hidden_TD: Tensor, batch: PackedBatch) -> tuple[Tensor, dict[str, Tensor]]:
    assert batch.targets is not None
    weights_D = torch.linspace(-1, 2, hidden_TD.shape[1]).sin()
    loss = (hidden_TD.float() @ weights_D - batch.targets).square().mean()
    model.zero_grad()
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_loss_and_gradients(family: str, attention: Attention, batch: PackedBatch) -> None:
    model = tiny.model(family)
    padded_loss, padded = loss_and_gradients(model, run_padded(model, batch, attention), batch)
    hidden_TD = run_written_out(model, batch, attention)
    assert hidden_TD is not None
    loss, gradients = loss_and_gradients(model, hidden_TD, batch)

    torch.testing.assert_close(loss, padded_loss, rtol=1e-6, atol=1e-6)
    assert gradients.keys() == padded.keys() and gradients
    for name, gradient in gradients.items():
        assert (gradient - padded[name]).norm() / padded[name].norm().clamp(min=1e-6) < 1e-5, name
        assert gradient.stride() == dict(model.named_parameters())[name].stride(), name


def test_what_fills_a_stream_up_fits_into_a_short_context() -> None:
    lengths = [tiny.CONTEXT] * 25 + [25]
    batch = pack(tiny.sequences(lengths), collate)
    filled = rounded(batch, rounded_to(batch.n_tokens))
    assert filled.n_tokens - batch.n_tokens == 63 > tiny.CONTEXT
    assert filled.position_ids_T.max() == tiny.CONTEXT - 1
    model = tiny.model("gpt2")
    padded_loss, padded = loss_and_gradients(model, run_padded(model, batch, "causal"), batch)
    hidden_TD = run_written_out(model, batch, "causal")
    assert hidden_TD is not None
    loss, gradients = loss_and_gradients(model, hidden_TD, batch)
    torch.testing.assert_close(loss, padded_loss, rtol=1e-6, atol=1e-6)
    for name, gradient in gradients.items():
        assert (gradient - padded[name]).norm() / padded[name].norm().clamp(min=1e-6) < 1e-5, name


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_a_window_is_kept_where_the_family_reads_it(family: str, batch: PackedBatch) -> None:
    made = tiny.config(family)
    made.sliding_window = 6  # trials at loading have short sequences, which show no window of a usual size
    if family.startswith("qwen"):
        made.layer_types = ["sliding_attention", "full_attention"]
    torch.manual_seed(0)
    model = AutoModel.from_config(made).eval()
    with torch.no_grad():
        wanted_TD = run_padded(model, batch, "causal")
        hidden_TD = run_written_out(model, batch, "causal")
        assert hidden_TD is not None
        torch.testing.assert_close(hidden_TD, wanted_TD, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_is_as_near_to_fp32_as_autocast_is(family: str, batch: PackedBatch) -> None:
    model = packed_model(family)
    exact_loss, exact = loss_and_gradients(model, run_packed(model, batch, "causal"), batch)
    with torch.autocast("cpu", torch.bfloat16):
        own_TD, theirs_TD = run_written_out(model, batch, "causal"), run_packed(model, batch, "causal")
    assert own_TD is not None
    own_loss, own = loss_and_gradients(model, own_TD, batch)
    _, theirs = loss_and_gradients(model, theirs_TD, batch)

    torch.testing.assert_close(own_loss, exact_loss, rtol=1e-2, atol=0)
    assert all(gradient.dtype == torch.float32 for gradient in own.values())

    def distance(gradients: dict[str, Tensor]) -> float:
        return float(sum((gradients[name] - exact[name]).square().sum() for name in exact))

    assert distance(own) < 1.5 * distance(theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_prepacked_weights_change_nothing(family: str, dtype: torch.dtype, batch: PackedBatch) -> None:
    model = packed_model(family)
    assert can_prepack(dtype)
    with torch.no_grad():
        expected = run_packed(model, batch, "bidirectional")
        found = run_written_out(model, batch, "bidirectional", PrepackedKernels(dtype))
    assert found is not None
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_that_are_not_read_are_not_computed_and_change_nothing(family: str, batch: PackedBatch) -> None:
    model = packed_model(family)
    positions_P = torch.tensor([0, 5, 5, batch.n_tokens - 1])
    hidden_TD, hidden_PD = (
        run_written_out(model, batch, "causal", positions_P=positions) for positions in (None, positions_P)
    )
    assert hidden_TD is not None and hidden_PD is not None
    torch.testing.assert_close(hidden_PD, hidden_TD[positions_P], rtol=1e-5, atol=1e-6)
    gradients = [
        torch.autograd.grad(hidden.square().sum(), list(model.parameters()), allow_unused=True)
        for hidden in (hidden_PD, hidden_TD[positions_P])
    ]
    for found, expected in zip(*gradients, strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_dropout_drops_what_it_should() -> None:
    settings = {"attn_pdrop": 0.3, "embd_pdrop": 0.3, "resid_pdrop": 0.3}
    configuration = tiny.config("gpt2")
    for name, rate in settings.items():
        setattr(configuration, name, rate)
    model = AutoModel.from_config(configuration, dtype=torch.float32).train()
    batch = pack(tiny.sequences([9, 9, 4]), collate)
    with torch.no_grad():
        torch.manual_seed(1)
        first, second = (run_written_out(model, batch, "causal") for _ in range(2))
        torch.manual_seed(1)
        again = run_written_out(model, batch, "causal")
        still = run_written_out(model.eval(), batch, "causal")
    assert first is not None and second is not None and again is not None and still is not None
    assert torch.equal(first, again)
    assert not torch.equal(first, second) and not torch.equal(first, still)


def test_what_a_plugin_changes_inside_is_heard(batch: PackedBatch) -> None:
    model = packed_model("gpt2")
    assert find_pass(model) is not None
    heard: list[int] = []
    handle = model.h[1].mlp.register_forward_hook(lambda *_: heard.append(1))
    assert find_pass(model) is None
    handle.remove()
    assert find_pass(model) is not None
    inner = model.h[0].attn
    inner.forward = lambda *args, **kwargs: type(inner).forward(inner, *args, **kwargs)
    assert find_pass(model) is None
    del inner.forward
    assert find_pass(model) is not None
    model.h[0].gradient_checkpointing = True
    assert find_pass(model) is None


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_activations_that_are_computed_twice_run_through_transformers_own_layers(family: str) -> None:
    model = packed_model(family).train()
    checkpoint_activations(model)
    for module in model.modules():  # of what transformers does besides, nothing is relied on
        module._forward_hooks.clear()
    assert find_pass(model) is None


def test_adapters_run_through_transformers_own_layers() -> None:
    class Adapted(nn.Linear):
        """A layer that adds something of its own, as an adapter does."""

    model = packed_model("llama")
    assert find_pass(model) is not None
    model.layers[1].self_attn.q_proj = Adapted(32, 32)
    assert find_pass(model) is None


@pytest.mark.parametrize(("family", "layers"), [("llama", "written out"), ("gpt_neox", "transformers")])
def test_layers_are_chosen_by_family(family: str, layers: str) -> None:
    assert choose_layers(packed_model(family), "packed", "causal") == (layers, ())
    assert choose_layers(tiny.model(family), "padded", "causal") == ("transformers", ())


def test_layers_that_differ_are_not_used_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from vertebra.engine.blocks import llama

    def wrong(*args: object) -> Tensor:
        return 1.01 * correct(*args)  # type: ignore[arg-type]

    correct = llama.forward
    monkeypatch.setattr(llama, "forward", wrong)
    layers, (note,) = choose_layers(packed_model("llama"), "packed", "causal")
    assert layers == "transformers"
    assert "not verified for 'llama'" in note


@pytest.mark.parametrize("broken", ["gone", "wrong"])
def test_without_torchs_private_operators_plain_products_do(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Tensor:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")

    def errs(x_TI: Tensor, packed: Tensor, bias_O: Tensor | None) -> Tensor:
        return x_TI.new_zeros(len(x_TI), 50)

    can_prepack.cache_clear()
    monkeypatch.setattr(prepacked, "linear", fails if broken == "gone" else errs)
    assert not can_prepack(torch.float32)
    can_prepack.cache_clear()
    monkeypatch.undo()
    assert can_prepack(torch.float32) and not can_prepack(torch.float64)


@pytest.mark.parametrize("training", [True, False])
def test_a_frozen_weight_that_changes_after_all_is_seen(training: bool) -> None:
    layer = nn.Linear(12, 8).requires_grad_(False)
    x = torch.randn(5, 12)

    def in_bf16() -> Tensor:
        return functions.linear(x, layer, torch.bfloat16)

    def expected() -> Tensor:
        return F.linear(x.bfloat16(), layer.weight.bfloat16(), layer.bias.bfloat16())

    with functions.frozen_weights_cast_once() if training else nullcontext():
        torch.testing.assert_close(in_bf16(), expected())
        layer.weight.mul_(2)
        torch.testing.assert_close(in_bf16(), expected())
        layer.weight.data = torch.randn(8, 12)
        torch.testing.assert_close(in_bf16(), expected())
        layer.weight.data = torch.randn(12, 8).T
        torch.testing.assert_close(in_bf16(), expected())
        with torch.inference_mode():
            torch.testing.assert_close(in_bf16(), expected())
    layer.weight.data += 1  # as peft merges: no version tells of it, and no training goes on
    torch.testing.assert_close(in_bf16(), expected())


def test_a_frozen_weight_is_cast_once_in_a_training() -> None:
    layer, x = nn.Linear(12, 8), torch.randn(5, 12)
    for trained in (True, False):
        layer.requires_grad_(trained)
        with functions.frozen_weights_cast_once():
            first, second = (functions._cast(layer.weight, torch.bfloat16) for _ in range(2))
            assert (first is second) != trained
            functions.linear(x.requires_grad_(), layer, torch.bfloat16).sum().backward()
    assert functions._cast(layer.weight, torch.bfloat16) is not first


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inputs_first", [True, False])
def test_gelu_of_a_layer_where_nothing_is_recorded(inputs_first: bool, dtype: torch.dtype) -> None:
    layer = Conv1D(16, 8) if inputs_first else nn.Linear(8, 16)
    nn.init.normal_(layer.bias)
    x = torch.randn(24, 8)
    weight_OI = layer.weight.T if inputs_first else layer.weight
    plain = F.linear(x.to(dtype), weight_OI.to(dtype), layer.bias.to(dtype))
    tolerance = {} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(functions.gelu_linear(x, layer, dtype), F.gelu(plain, approximate="tanh"), **tolerance)


def test_heads_that_were_rotated_take_the_same_ways_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    ways: list[str] = []
    for name in ("attend_by_products", "attend_in_blocks"):
        plain = getattr(attention, name)
        monkeypatch.setattr(attention, name, lambda *a, plain=plain, name=name: ways.append(name) or plain(*a))
    lengths = attention.LENGTHS
    for length, way in ((lengths.start - 1, "attend_by_products"), (lengths.start, "attend_in_blocks")):
        stream = pack([Features(np.zeros(length, dtype=np.int64))], lambda _: None)
        query, key, value = torch.randn(3, length, 2, 8).unbind(0)
        with torch.no_grad():
            found = attention.attend(query, key, value.bfloat16(), stream, Options(), 0)
            expected = F.scaled_dot_product_attention(
                *(one.transpose(0, 1) for one in (query, key, value)), is_causal=True
            )
        assert ways.pop() == way
        assert not ways
        torch.testing.assert_close(found.float(), expected.transpose(0, 1), rtol=0.05, atol=0.05)
