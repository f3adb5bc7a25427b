"""A packed stream gives what each of its sequences gives alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import pytest
import tiny_models as tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModel

from vertebra.config.schema import BackboneConfig
from vertebra.engine import attention_rectangle
from vertebra.engine.attention import PACKED, attend
from vertebra.engine.attention_blocks import attend_in_blocks
from vertebra.engine.attention_options import Options
from vertebra.engine.attention_rectangle import Rectangle
from vertebra.engine.backbone import (
    Backbone,
    BackboneInfo,
    Layers,
    Packing,
    causal_layers,
    run_packed,
    run_padded,
    run_written_out,
)
from vertebra.engine.directions import Attention
from vertebra.engine.dropout import keep_mask
from vertebra.engine.groups import group_sequences
from vertebra.engine.loading import checkpoint_activations
from vertebra.engine.packing import PackedBatch, cut, pack, rounded
from vertebra.engine.probes import choose_packing, require_bidirectional
from vertebra.errors import BackboneError
from vertebra.tasks.features import Features

FAMILIES = ["gpt2", "llama", "qwen3", "mistral", "gpt_neox"]
ATTENTIONS: list[Attention] = ["causal", "bidirectional"]
LENGTHS = [1, tiny.CONTEXT, 7, 7, 3, 1, 12]


def collate(features: Sequence[Features]) -> Tensor:
    return torch.tensor([value for one in features for value in one.target])


def batch_of(lengths: list[int]) -> PackedBatch:
    return pack(tiny.sequences(lengths), collate)


def loss_and_gradients(
    model: torch.nn.Module, hidden_TD: Tensor, batch: PackedBatch
) -> tuple[Tensor, dict[str, Tensor]]:
    assert batch.targets is not None
    # A plain sum over a normalised hidden state would be constant.
    weights_D = torch.linspace(-1, 2, hidden_TD.shape[1]).sin()
    loss = (hidden_TD @ weights_D - batch.targets).square().mean()
    model.zero_grad()
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_padded(family: str, attention: Attention) -> None:
    model, batch = tiny.model(family), batch_of(LENGTHS)
    padded_loss, padded = loss_and_gradients(model, run_padded(model, batch, attention), batch)
    model.set_attn_implementation(PACKED)
    packed_loss, packed = loss_and_gradients(model, run_packed(model, batch, attention), batch)

    torch.testing.assert_close(packed_loss, padded_loss, rtol=1e-6, atol=1e-6)
    assert packed.keys() == padded.keys() and packed
    for name, gradient in packed.items():
        difference = (gradient - padded[name]).norm() / padded[name].norm().clamp(min=1e-6)
        assert difference < 1e-5, name


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_changes_nothing(family: str, attention: Attention) -> None:
    model, batch = tiny.model(family), batch_of(LENGTHS)
    model.set_attn_implementation(PACKED)
    model.train()
    loss, plain = loss_and_gradients(model, run_packed(model, batch, attention), batch)
    checkpoint_activations(model)
    checkpointed_loss, checkpointed = loss_and_gradients(model, run_packed(model, batch, attention), batch)
    assert loss == checkpointed_loss
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_neighbours_tokens_change_no_other_output(family: str, attention: Attention) -> None:
    model = tiny.model(family)
    model.set_attn_implementation(PACKED)
    before = tiny.sequences([9, 9, 4, 1])
    after = list(before)
    after[1] = tiny.sequences([9, 9, 4, 1], seed=5)[1]
    with torch.no_grad():
        first, second = (run_packed(model, pack(features, collate), attention) for features in (before, after))
    torch.testing.assert_close(first[:9], second[:9], rtol=0, atol=0)
    torch.testing.assert_close(first[18:], second[18:], rtol=0, atol=0)
    assert not torch.allclose(first[9:18], second[9:18])


@pytest.mark.parametrize("family", FAMILIES)
def test_causal_looks_back_only_and_bidirectional_both_ways(family: str) -> None:
    model = tiny.model(family)
    packing, notes = choose_packing(model, BackboneConfig(), "causal")
    assert (packing, notes) == ("packed", ())
    early, late = tiny.sequences([8])[0], tiny.sequences([8])[0]
    late.input_ids[-1] = (late.input_ids[-1] + 1) % tiny.VOCABULARY
    with torch.no_grad():
        for attention in ATTENTIONS:
            one, other = (run_packed(model, pack([features], collate), attention) for features in (early, late))
            assert torch.equal(one[:5], other[:5]) == (attention == "causal")


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_may_differ_by_sequence_and_by_layer(family: str) -> None:
    model, batch = tiny.model(family), batch_of([20, 12, 12, 7, 3, 1])
    model.set_attn_implementation(PACKED)
    looks_back = (True, False, True, False, True, False)
    with torch.no_grad():
        causal, both = (run_packed(model, batch, attention) for attention in ATTENTIONS)
        mixed = run_packed(model, replace(batch, causal=looks_back), "bidirectional")
        starts = batch.cu_seqlens.tolist()
        for number, one in enumerate(looks_back):
            part = slice(starts[number], starts[number + 1])
            torch.testing.assert_close(mixed[part], (causal if one else both)[part], rtol=1e-5, atol=1e-5)
        layered = model(
            input_ids=batch.input_ids_T[None],
            position_ids=batch.position_ids_T[None],
            use_cache=False,
            packed=batch,
            causal=(True, False),
        ).last_hidden_state[0]
    assert not torch.allclose(layered, causal, atol=1e-3) and not torch.allclose(layered, both, atol=1e-3)


@pytest.mark.parametrize("heads", [4, 2])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 5])
def test_attention_with_dropout_is_right_on_average(heads: int, causal: bool, window: int | None) -> None:
    torch.manual_seed(0)
    batch = batch_of([14, 9, 9, 2])
    shapes = (4, heads, heads)
    query, key, value = (torch.randn(batch.n_tokens, count, 8).requires_grad_() for count in shapes)
    expected = attend(query, key, value, batch, Options(causal=causal, window=window), 0)
    total = sum(
        attend(query, key, value, batch, Options(dropout=0.2, causal=causal, window=window), 0) for _ in range(4000)
    )
    torch.testing.assert_close(total / 4000, expected, rtol=0, atol=0.06)
    few = attend(query, key, value, batch, Options(dropout=1e-9, causal=causal, window=window), 0)
    torch.testing.assert_close(few, expected, rtol=1e-5, atol=1e-5)
    given = torch.randn_like(expected)
    for found, wanted in zip(
        torch.autograd.grad(few, (query, key, value), given),
        torch.autograd.grad(expected, (query, key, value), given),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@given(st.floats(0.001, 0.999))
def test_masks_keep_the_share_that_they_should(dropout: float) -> None:
    mask = keep_mask(torch.empty(40_001), dropout)
    kept = mask != 0
    assert abs(float(kept.float().mean()) - (1 - dropout)) < 0.02
    assert mask[kept].numel() == 0 or float(mask[kept][0]) == pytest.approx(1 / (1 - dropout), rel=0.02)


@pytest.mark.parametrize(("family", "reason"), [("gemma2", "softcap"), ("bloom", "replaced")])
def test_a_family_that_does_not_pack_runs_padded_and_says_so(family: str, reason: str) -> None:
    model = tiny.model(family)
    packing, (note,) = choose_packing(model, BackboneConfig(), "causal")
    assert packing == "padded"
    assert family in note and reason in note
    with torch.no_grad():  # padding changes nothing either
        batch = batch_of([5, 3, 1])
        together = run_padded(model, batch, "causal")
        alone = torch.cat([run_padded(model, pack([one], collate), "causal") for one in batch.features])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    with pytest.raises(BackboneError, match=r"backbone\.packing=packed does not work"):
        choose_packing(model, BackboneConfig(packing="packed"), "causal")


def test_rotation_that_depends_on_the_longest_sequence_is_not_packed() -> None:
    configuration = tiny.config("llama")
    configuration.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    packing, (note,) = choose_packing(AutoModel.from_config(configuration), BackboneConfig(), "causal")
    assert packing == "padded" and "'dynamic'" in note


def test_layers_of_an_unknown_kind_are_not_packed() -> None:
    model = AutoModel.from_config(tiny.config("qwen3"))
    model.config.layer_types = ["full_attention", "chunked_attention"]
    packing, (note,) = choose_packing(model, BackboneConfig(), "causal")
    assert packing == "padded" and "'chunked_attention'" in note


@pytest.mark.parametrize("family", ["gpt_neo", "bloom"])
def test_a_family_that_cannot_look_ahead_is_refused(family: str) -> None:
    with pytest.raises(BackboneError, match="cannot attend in both directions"):
        require_bidirectional(tiny.model(family), "padded", family)


lengths = st.lists(st.integers(1, 30), min_size=1, max_size=40)


@given(lengths)
def test_a_stream_holds_every_token_once(lengths: list[int]) -> None:
    features = tiny.sequences(lengths)
    batch = pack(features, collate)
    assert batch.n_tokens == sum(lengths)
    assert batch.lengths == tuple(sorted(lengths, reverse=True))
    starts = batch.cu_seqlens.tolist()
    for number, one in enumerate(batch.features):
        part = slice(starts[number], starts[number + 1])
        assert batch.input_ids_T[part].tolist() == one.input_ids.tolist()
        assert batch.position_ids_T[part].tolist() == list(range(len(one)))
    rows_T1 = torch.arange(sum(lengths))[:, None]
    assert torch.equal(batch.groups.collect(batch.groups.spread(rows_T1)), rows_T1)
    assert sorted(one.example for one in batch.features) == list(range(len(lengths)))


@given(lengths, st.integers(1, 100), st.booleans())
def test_pieces_keep_to_the_budget_and_lose_nothing(lengths: list[int], budget: int, padded: bool) -> None:
    pieces = cut(tiny.sequences(lengths), budget, padded=padded)
    assert sorted(one.example for piece in pieces for one in piece) == list(range(len(lengths)))
    for piece in pieces:
        cost = len(piece) * max(map(len, piece)) if padded else sum(map(len, piece))
        assert cost <= budget or len(piece) == 1


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [192, 200, 384, 1024])
def test_long_sequences_in_bf16_attend_as_in_fp32_but_for_rounding(length: int, causal: bool) -> None:
    torch.manual_seed(length)
    heads = [torch.randn(2, 3, length, 32).bfloat16().requires_grad_() for _ in "qkv"]
    exact = [one.detach().float().requires_grad_() for one in heads]
    ours = attend_in_blocks(*heads, causal)
    wanted = torch.nn.functional.scaled_dot_product_attention(*exact, is_causal=causal)
    upstream = torch.randn_like(wanted)
    pairs = [
        (ours, wanted),
        *zip(
            torch.autograd.grad(ours, heads, upstream.bfloat16()),
            torch.autograd.grad(wanted, exact, upstream),
            strict=True,
        ),
    ]
    for found, expected in pairs:
        assert found.dtype == torch.bfloat16
        assert (found.float() - expected).norm() / expected.norm() < 0.01  # bf16 keeps 8 bits: 0.4 %


@torch.no_grad()
@pytest.mark.parametrize("attention", [0.5, ("causal", "bidirectional"), ("bidirectional", "causal")])
def test_layers_may_look_in_different_directions(attention: Attention) -> None:
    model = tiny.model("gpt2")
    batch = batch_of([9, 4, 17])
    flags = [True, False] if attention == 0.5 else [one == "causal" for one in attention]  # type: ignore[union-attr]

    def layer_by_layer(ids: Tensor) -> Tensor:
        hidden = model.wte(ids[None]) + model.wpe(torch.arange(len(ids)))
        for block, causal in zip(model.h, flags, strict=True):
            out = block(hidden, is_causal=causal)
            hidden = out[0] if isinstance(out, tuple) else out
        return model.ln_f(hidden)[0]

    alone = torch.cat([layer_by_layer(ids) for ids in batch.input_ids_T.split(batch.lengths)])
    packing, notes = choose_packing(model, BackboneConfig(), attention)
    assert (packing, notes) == ("packed", ())
    torch.testing.assert_close(run_packed(model, batch, attention), alone, rtol=1e-5, atol=1e-6)
    written_out = run_written_out(model, batch, attention)
    assert written_out is not None
    torch.testing.assert_close(written_out, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "packing, layers", [("packed", "transformers"), ("packed", "written out"), ("padded", "transformers")]
)
def test_sequences_may_look_another_way_than_the_backbone(packing: Packing, layers: Layers) -> None:
    model = tiny.model("gpt2")
    info = BackboneInfo("tiny", 0, "random", "causal", packing, layers, tiny.CONTEXT, "", ())
    backbone = Backbone(model, None, info).eval()  # type: ignore[arg-type]
    sequences = [one.read_everywhere() for one in tiny.sequences([9, 5])]
    ahead = [replace(one, attention="bidirectional") for one in sequences]
    expected = [run_padded(model, pack(sequences, collate), way) for way in ATTENTIONS]
    if packing == "packed":
        model.set_attn_implementation(PACKED)
    for features, wanted_TD in zip((sequences, ahead), expected, strict=True):
        torch.testing.assert_close(backbone(pack(features, collate)), wanted_TD, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
def test_sequences_that_look_different_ways_are_no_neighbours(padded: bool) -> None:
    sequences = tiny.sequences([9, 5, 7, 3, 4, 8])
    mixed = [replace(one, attention="bidirectional") if number % 2 else one for number, one in enumerate(sequences)]
    pieces = cut(mixed, 16, padded=padded)
    assert all(len({one.attention for one in piece}) == 1 for piece in pieces)
    assert sorted(map(len, (one for piece in pieces for one in piece))) == [3, 4, 5, 7, 8, 9]
    assert [pack(piece, collate).attention for piece in pieces] == [piece[0].attention for piece in pieces]
    with pytest.raises(ValueError, match="look the same way"):
        pack(mixed, collate)


def test_what_layers_cannot_do_is_refused_by_name() -> None:
    model = tiny.model("gpt2")
    with pytest.raises(BackboneError, match=r"lists 3 layers; the model has 2"):
        causal_layers(("causal",) * 3, model)
    with pytest.raises(BackboneError, match=r"runs padded, where all layers look in one direction"):
        require_bidirectional(model, "padded", "x", 0.5)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_rectangle_equals_groups(family: str, attention: Attention, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = tiny.model(family), batch_of(LENGTHS)
    model.set_attn_implementation(PACKED)
    grouped_loss, grouped = loss_and_gradients(model, run_packed(model, batch, attention), batch)
    monkeypatch.setattr(attention_rectangle, "DEVICES", ("cpu",))
    loss, found = loss_and_gradients(model, run_packed(model, batch, attention), batch)
    assert batch.rectangle is not None
    torch.testing.assert_close(loss, grouped_loss, rtol=1e-6, atol=1e-6)
    for name, gradient in found.items():
        assert (gradient - grouped[name]).norm() <= 1e-5 * grouped[name].norm().clamp(min=1e-4)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), multiple=st.sampled_from([1, 16, 64]))
def test_a_stream_is_filled_up_by_sequences_no_longer_than_its_own(lengths: list[int], multiple: int) -> None:
    batch = batch_of(lengths)
    full = rounded(batch, multiple)
    assert full.n_tokens % multiple == 0 and full.n_tokens - batch.n_tokens < multiple
    assert full.lengths[: len(batch)] == batch.lengths and max(full.lengths) == max(lengths)
    assert full.cu_seqlens.tolist() == [0, *accumulate(full.lengths)] and full.cu_seqlens.dtype == torch.int32
    assert full.position_ids_T.tolist() == [place for length in full.lengths for place in range(length)]
    assert set(full.input_ids_T.tolist()) == set(batch.input_ids_T.tolist())


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any), longest=st.integers(9, 12))
def test_a_rectangle_has_each_token_in_its_place(lengths: list[int], longest: int) -> None:
    starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    rectangle = Rectangle.of(starts, sum(lengths), longest)
    rows = [list(range(start, start + length)) for start, length in zip(starts.tolist(), lengths, strict=False)]
    found = [
        [token for token, is_token in zip(*pair, strict=True) if is_token]
        for pair in zip(rectangle.tokens_NL.tolist(), rectangle.is_token_NL.tolist(), strict=True)
    ]
    assert found == rows
    assert rectangle.tokens_NL.flatten()[rectangle.places_T].tolist() == list(range(sum(lengths)))
    assert bool(rectangle.mask(True, None).any(-1).all())


def test_a_rectangle_that_is_mostly_padding_is_not_made() -> None:
    few = batch_of([tiny.CONTEXT] + [1] * 500)
    assert not attention_rectangle.is_worth_it(4096, 1, 4096)  # its mask is large
    assert few.rectangle is None and batch_of([tiny.CONTEXT] + [1] * 5).rectangle is not None


def test_on_a_gpu_lengths_share_a_group_that_share_the_next_power_of_two() -> None:
    lengths = [300, 260, 250, 130, 128, 70, 64, 33, 2, 1]
    assert [group.count for group in group_sequences(lengths, "meta").members] == [2, 2, 2, 4]
    assert [group.count for group in group_sequences(lengths).members] == [1, 1, 1, 1, 1, 1, 1, 1, 2]
