"""Sequences of several tasks in one pass: each task gets what it gets alone, in evaluation and in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import peft
import pytest
import tiny_models as tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.tuners.lora.layer import Embedding as LoRAEmbedding
from torch import Tensor

from vertebra import create_host
from vertebra.config.options import configure
from vertebra.config.schema import BackboneConfig
from vertebra.engine import products
from vertebra.engine.adapters.adapter import adapt, freeze, trained_parameters
from vertebra.engine.adapters.mixed import LoRA, MixedBackbone
from vertebra.engine.adapters.views import own_what_is_trained, view
from vertebra.engine.attention import PACKED
from vertebra.engine.backbone import Backbone, BackboneInfo, Layers, Packing, turn_for_inference
from vertebra.engine.blocks.passes import find_pass
from vertebra.engine.directions import Attention
from vertebra.engine.loading import checkpoint_activations, load_tokenizer
from vertebra.engine.mixed_batch import mix
from vertebra.engine.packing import PackedBatch, pack
from vertebra.engine.prepacked import can_prepack
from vertebra.errors import BackboneError
from vertebra.tasks.features import Features

HOST = create_host()
TOKENIZER = load_tokenizer(BackboneConfig(), HOST)
WAYS: list[tuple[Packing, Layers]] = [("packed", "written out"), ("packed", "transformers"), ("padded", "transformers")]
TASKS = {"one": "lora", "two": "rslora", "three": "frozen", "four": "lora"}


def plain(
    family: str = "gpt2",
    packing: Packing = "packed",
    layers: Layers = "written out",
    attention: Attention = "causal",
) -> Backbone:
    model = tiny.model(family)
    if packing == "packed":
        model.set_attn_implementation(PACKED)
    info = BackboneInfo("tiny", 1, "random", attention, packing, layers, tiny.CONTEXT, "", ())
    return Backbone(model, TOKENIZER, info, own_attention="sdpa").eval()


def learnt(base: Backbone, adapter: str, seed: int = 1, attention: Attention | None = None, **more: object) -> Backbone:
    """Return a view of a backbone with an adapter that has learnt something."""
    config = configure(HOST, task="ner", adapter={"name": adapter, **more})
    own = adapt(view(base, attention=attention), config, HOST)
    own_what_is_trained(own, base)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in trained_parameters(own):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return own.eval()


def batches(lengths: Mapping[str, Sequence[int]]) -> dict[str, PackedBatch]:
    return {
        name: pack(
            tiny.sequences(list(own), seed=len(name)), lambda some: torch.tensor([v for f in some for v in f.target])
        )
        for name, own in lengths.items()
    }


LENGTHS = {"one": [3, 20, 7], "two": [12, 1], "three": [5, 9, 2], "four": [20]}


def mixed(base: Backbone, own: Mapping[str, Backbone]) -> MixedBackbone:
    return MixedBackbone(base, {name: LoRA.of(one) if TASKS[name] != "frozen" else None for name, one in own.items()})


def loss_of(hidden_PD: Tensor, batch: PackedBatch) -> Tensor:
    assert batch.targets is not None
    return (hidden_PD @ torch.linspace(-1, 2, hidden_PD.shape[1]).sin() - batch.targets).square().mean()


@pytest.mark.parametrize(("packing", "layers"), WAYS)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_mixed_pass_gives_each_task_what_it_gets_alone(family: str, packing: Packing, layers: Layers) -> None:
    base = plain(family, packing, layers)
    own = {name: learnt(base, adapter, seed) for seed, (name, adapter) in enumerate(TASKS.items())}
    given_ = batches(LENGTHS)
    with torch.no_grad():
        together = mix(given_)
        untouched = base(together.stream)
        found = together.split(mixed(base, own)(together))
        unadapted = together.split(base(together.stream))
        assert torch.equal(base(together.stream), untouched), "nothing stays behind"
        for name, one in own.items():
            torch.testing.assert_close(found[name], one(given_[name]), rtol=1e-5, atol=1e-5)
            assert torch.allclose(found[name], unadapted[name], atol=1e-4) == (TASKS[name] == "frozen")
    assert find_pass(base.model) is not None, "layers written out still stand for the plain model"


@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_a_pass_adds_nothing_to_another_in_a_second_thread(packing: Packing) -> None:
    base = plain("gpt2", packing, "transformers")
    own = {name: learnt(base, adapter, seed) for seed, (name, adapter) in enumerate(TASKS.items())}
    together = mix(batches(LENGTHS))
    others = [mix(batches({name: [7, 3]})) for name in TASKS]
    model = mixed(base, own)
    meanwhile: list[Tensor] = []

    def in_the_middle(*_: object) -> None:
        hook.remove()
        with ThreadPoolExecutor(1) as thread:
            meanwhile.extend(thread.map(torch.no_grad()(model), others))
            meanwhile.extend(thread.map(torch.no_grad()(base), [together.stream]))

    with torch.no_grad():
        expected = [*(model(one) for one in (together, *others)), base(together.stream)]
        hook = base.model.get_input_embeddings().register_forward_pre_hook(in_the_middle)
        found = [model(together), *meanwhile]
    for one, alone in zip(found, expected, strict=True):
        torch.testing.assert_close(one, alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("packing", "layers"), WAYS)
def test_both_adapters_learn_from_a_mixed_pass_what_they_learn_alone(packing: Packing, layers: Layers) -> None:
    base = plain("gpt2", packing, layers)
    freeze(base)
    own = {"one": learnt(base, "lora"), "four": learnt(base, "lora", 2)}
    for backbone in (base, *own.values()):
        backbone.train()  # the tiny models drop nothing
    given_ = batches({name: LENGTHS[name] for name in own})
    together = mix(given_)
    found = together.split(mixed(base, own)(together))
    sum(loss_of(found[one.name], one.batch) for one in together.segments).backward()  # type: ignore[union-attr]
    for name, backbone in own.items():
        parameters = [one for _, one in trained_parameters(backbone)]
        expected = torch.autograd.grad(loss_of(backbone(given_[name]), given_[name]), parameters)
        for parameter, gradient in zip(parameters, expected, strict=True):
            assert parameter.grad is not None and gradient.abs().max() > 0
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)
    assert all(one.grad is None for one in base.parameters())


def test_one_adapter_may_serve_several_tasks_and_drops_inputs_in_training_alone() -> None:
    base = plain()
    freeze(base)
    own = learnt(base, "lora", dropout=0.5)
    shared = LoRA.of(own)
    together = mix(batches({"one": [4, 3], "two": [6]}))
    model = MixedBackbone(base, {"one": shared, "two": shared})
    with torch.no_grad():
        alone = own(together.stream)
        torch.testing.assert_close(model(together), alone, rtol=1e-5, atol=1e-5)
        base.train()
        torch.manual_seed(1)
        first, second = model(together), model(together)
    assert not torch.allclose(first, second) and not torch.allclose(first, alone)
    assert {id(one) for one in shared.parameters()} == {id(one) for _, one in trained_parameters(own)}


@cache
def ready(packing: Packing, layers: Layers) -> tuple[Backbone, dict[str, Backbone]]:
    base = plain("gpt2", packing, layers)
    return base, {name: learnt(base, adapter, seed) for seed, (name, adapter) in enumerate(TASKS.items())}


@given(st.data())
@settings(max_examples=8)
def test_any_mixture_of_tasks_lengths_and_positions_is_exact(data: st.DataObject) -> None:
    base, own = ready(*data.draw(st.sampled_from(WAYS)))
    given_ = {}
    for name in data.draw(st.lists(st.sampled_from(list(TASKS)), min_size=1, unique=True)):
        features = []
        for _ in range(data.draw(st.integers(1, 3))):
            length = data.draw(st.integers(1, tiny.CONTEXT))
            read = data.draw(st.lists(st.integers(0, length - 1), max_size=4))
            ids = data.draw(st.lists(st.integers(1, tiny.VOCABULARY - 1), min_size=length, max_size=length))
            features.append(Features(ids, positions=read))  # type: ignore[arg-type]
        given_[name] = pack(features, lambda _: None)
    together = mix(given_)
    if not len(together.stream.positions_P):
        return
    with torch.no_grad():
        found = together.split(mixed(base, own)(together))
        for name, batch in given_.items():
            if len(batch.positions_P):
                torch.testing.assert_close(found[name], own[name](batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layers", ["written out", "transformers"])
def test_tasks_that_look_back_and_tasks_that_look_both_ways_share_a_pass(layers: Layers) -> None:
    base = plain(layers=layers)
    own = {"one": learnt(base, "lora"), "four": learnt(base, "lora", 2, attention="bidirectional")}
    given_ = batches({name: LENGTHS[name] for name in own})
    together = mix(given_, causal={"one": True, "four": False})
    with torch.no_grad():
        found = together.split(mixed(base, own)(together))
        for name, one in own.items():
            torch.testing.assert_close(found[name], one(given_[name]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("onednn", [True, False])
def test_weights_turned_for_inference_serve_a_mixed_pass(onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if onednn and not can_prepack(torch.float32):
        pytest.skip("torch has no oneDNN here")
    monkeypatch.setattr(products, "prefers_onednn", lambda: onednn)
    base = plain()
    turn_for_inference(base)
    turned = base.model.get_parameter("h.0.attn.c_attn.weight")
    assert turned.T.is_contiguous()
    assert turned.shape == (base.width, 3 * base.width)
    own = {name: learnt(base, adapter, seed) for seed, (name, adapter) in enumerate(TASKS.items())}
    untouched = {name: learnt(plain(), adapter, seed) for seed, (name, adapter) in enumerate(TASKS.items())}
    given_ = batches(LENGTHS)
    together, model = mix(given_), mixed(base, own)
    with torch.no_grad():
        found = together.split(model(together))
        for name, one in untouched.items():
            torch.testing.assert_close(found[name], one(given_[name]), rtol=1e-5, atol=1e-5)


def test_what_was_turned_for_inference_is_trained_as_before() -> None:
    batch = batches({"one": LENGTHS["one"]})["one"]
    gradients = []
    for turned in (False, True):
        base = plain().train()
        if turned:
            turn_for_inference(base)
        loss_of(base(batch), batch).backward()
        gradients.append({name: one.grad for name, one in base.named_parameters() if one.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() != set()
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("adapter", ["lora", "dora", "ia3", "adalora", "bottleneck", "layer_norm", "top_layers"])
def test_an_adapter_on_a_view_is_seen_nowhere_else(adapter: str) -> None:
    base, untouched = plain(), plain()
    own = learnt(base, adapter, **({"layers": 1} if adapter == "top_layers" else {}))
    batch = batches({"one": [3, 7]})["one"]
    with torch.no_grad():
        assert torch.equal(base(batch), untouched(batch))
        assert not torch.allclose(own(batch), untouched(batch), atol=1e-4)
    storages = {one.data_ptr() for one in base.parameters()}
    of_its_own = sum(one.numel() for one in own.parameters() if one.data_ptr() not in storages)
    trained = sum(one.numel() for _, one in trained_parameters(own))
    assert of_its_own == trained or (adapter == "adalora" and of_its_own < 1.1 * trained), "all else is the base's"
    assert all(one.requires_grad for one in base.parameters()), "freezing a view freezes no other"


@pytest.mark.parametrize("adapter", ["dora", "adalora", "ia3", "bottleneck", "layer_norm"])
def test_what_is_no_sum_is_refused(adapter: str) -> None:
    with pytest.raises(BackboneError, match="can be mixed in one pass"):
        LoRA.of(learnt(plain(), adapter))


def test_a_lora_around_an_embedding_is_refused_not_left_out() -> None:
    own = learnt(plain(), "lora")
    wte = own.model.get_submodule("wte")
    own.model.wte = LoRAEmbedding(wte, "default", peft.LoraConfig(), r=2, lora_alpha=2)  # as a plugin's adapter may
    with pytest.raises(BackboneError, match="Only plain LoRA inside the backbone's layers can be mixed"):
        LoRA.of(own)


def test_a_lora_for_another_model_and_activations_computed_twice_are_refused() -> None:
    lora = LoRA.of(learnt(plain("llama"), "lora"))
    with pytest.raises(BackboneError, match="another model: this backbone has no layer"):
        MixedBackbone(plain("gpt2"), {"one": lora})
    base = plain()
    checkpoint_activations(base.model)
    with pytest.raises(BackboneError, match="gradient_checkpointing=true"):
        MixedBackbone(base, {"one": None})


def test_a_stream_keeps_what_a_frozen_backbone_has_read() -> None:
    given_ = batches({"one": [3, 2], "two": [4]})
    read = {name: replace(one, hidden_PD=torch.rand(len(one.positions_P), 8)) for name, one in given_.items()}
    together = mix(read)
    assert together.stream.hidden_PD is not None
    for name, part in together.split(together.stream.hidden_PD).items():
        assert torch.equal(part, read[name].hidden_PD)  # type: ignore[arg-type]
    assert mix({**read, "two": given_["two"]}).stream.hidden_PD is None
    with pytest.raises(ValueError, match="needs a sequence"):
        mix({})
