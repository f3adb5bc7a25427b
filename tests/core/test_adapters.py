"""What each adapter trains, that it is exact on packed batches, and that its files are peft's where it is peft's."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import tiny_models as tiny
import torch
from adapted_models import (
    BY_PEFT,
    FAMILIES,
    HOST,
    LENGTHS,
    PACKING,
    adapted,
    assert_alike,
    batch_of,
    loss_and_gradients,
    loss_of,
    writing,
)
from safetensors.torch import load, save_file
from torch import Tensor, nn
from torch.func import functional_call

from vertebra import AdapterRef
from vertebra.config.adapters import LoRAConfig
from vertebra.config.compatibility import MODEL_FAMILIES
from vertebra.config.compose import compose
from vertebra.config.document import from_document, to_document
from vertebra.config.options import configure
from vertebra.engine.adapters import parts
from vertebra.engine.adapters.adalora import AdaLoRAAdapter
from vertebra.engine.adapters.adapter import Adapter, adapt, leave_room, trained_parameters
from vertebra.engine.attention import PACKED
from vertebra.engine.backbone import Backbone, Packing, run_padded
from vertebra.engine.counting import count_parameters
from vertebra.engine.directions import Direction
from vertebra.engine.model import TaskModel
from vertebra.errors import BackboneError, ConfigError, RunError


def adapter_of(backbone: Backbone) -> Adapter:
    assert backbone.adapter is not None
    return backbone.adapter


# --- numbers


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", PACKING)
def test_packed_equals_padded_equals_alone(name: str, family: str, attention: Direction) -> None:
    features = tiny.sequences(LENGTHS)
    packed = adapted(name, family, attention)
    padded = adapted(name, family, attention, "padded")
    whole = [batch_of(features)]
    loss, gradients = loss_and_gradients(packed, whole)
    assert gradients.keys() == dict(trained_parameters(packed)).keys()
    for other in (
        loss_and_gradients(padded, whole),
        loss_and_gradients(packed, [batch_of([one]) for one in features]),
    ):
        torch.testing.assert_close(loss, other[0], rtol=1e-6, atol=1e-6)
        assert_alike(gradients, other[1])


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_is_seen_by_each_sequence_as_if_it_were_alone(family: str, attention: Direction) -> None:
    features = tiny.sequences(LENGTHS)
    backbone = adapted("prefix", family, attention, "padded", tokens=4)
    loss, gradients = loss_and_gradients(backbone, [batch_of(features)])
    alone_loss, alone = loss_and_gradients(backbone, [batch_of([one]) for one in features])
    torch.testing.assert_close(loss, alone_loss, rtol=1e-6, atol=1e-6)
    (name,) = gradients
    torch.testing.assert_close(gradients[name], alone[name], rtol=1e-4, atol=1e-5)
    assert gradients[name].abs().min() > 0, "every entry of it counts"

    def hidden(ids: Sequence[int]) -> Tensor:
        one = replace(features[1], input_ids=type(features[1].input_ids)(len(ids)))
        one.input_ids[:] = ids
        found: Tensor = backbone(batch_of([one])).detach()
        return found

    ids = features[1].input_ids.tolist()
    changed = hidden([*ids[:-1], (ids[-1] + 1) % tiny.VOCABULARY])
    looks_ahead = not torch.equal(changed[0], hidden(ids)[0])
    assert looks_ahead == (attention == "bidirectional")


def test_lora_has_the_gradients_of_a_plain_low_rank_product() -> None:
    backbone, plain = adapted("lora", "llama", rank=4, alpha=8), tiny.model("llama")
    plain.set_attn_implementation(PACKED)
    batch = batch_of(tiny.sequences(LENGTHS))
    loss, gradients = loss_and_gradients(backbone, [batch])
    thin = {
        name.removeprefix("model.").replace(".default.weight", ""): parameter.detach().clone().requires_grad_()
        for name, parameter in trained_parameters(backbone)
    }
    weights = {
        name: weight.detach() + 2 * thin[f"{layer}.lora_B"] @ thin[f"{layer}.lora_A"]
        for name, weight in plain.named_parameters()
        if f"{(layer := name.removesuffix('.weight'))}.lora_A" in thin
    }
    assert len(weights) == 14, "seven matrices in each of two layers"
    inputs = {"input_ids": batch.input_ids_T[None], "position_ids": batch.position_ids_T[None], "use_cache": False}
    hidden_TD = functional_call(plain, weights, kwargs={**inputs, "packed": batch}).last_hidden_state[0]
    expected = loss_of(hidden_TD, batch)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=1e-6)
    for name, gradient in zip(thin, torch.autograd.grad(expected, list(thin.values())), strict=True):
        torch.testing.assert_close(gradients[f"model.{name}.default.weight"], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", BY_PEFT)
def test_merged_equals_unmerged_and_what_is_beside_is_as_before(name: str, family: str) -> None:
    backbone, plain = adapted(name, family), tiny.model(family)
    batch = batch_of(tiny.sequences(LENGTHS))
    base = adapter_of(backbone).base_weights()
    assert base is not None and base.keys() == plain.state_dict().keys()
    assert all(torch.equal(base[key], weight) for key, weight in plain.state_dict().items())
    with torch.no_grad():
        before = backbone(batch)
        adapter_of(backbone).merge()
        torch.testing.assert_close(backbone(batch), before, rtol=1e-5, atol=1e-5)
    assert backbone.model.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("name", ["bottleneck", "prefix"])
def test_what_does_not_merge_leaves_a_plain_backbone_beside_it(name: str) -> None:
    backbone, plain = adapted(name, packing="padded"), tiny.model("gpt2").state_dict()
    assert not adapter_of(backbone).merges
    base = adapter_of(backbone).base_weights() or backbone.model.state_dict()
    assert base.keys() == plain.keys()
    assert all(torch.equal(base[key], weight) for key, weight in plain.items())


@pytest.mark.parametrize("name", [*PACKING, "prefix"])
def test_every_family_that_is_declared_takes_the_adapter(name: str) -> None:
    ref = HOST.get("adapter", name)
    assert isinstance(ref, AdapterRef) and ref.models is None, "all of them"
    batch = batch_of(tiny.sequences(LENGTHS))
    for family in MODEL_FAMILIES:
        backbone = adapted(name, family, packing="padded")
        hidden_TD = backbone(batch)
        assert hidden_TD.isfinite().all()
        assert not torch.allclose(hidden_TD, run_padded(tiny.model(family), batch, "causal"), atol=1e-4), family


# --- what is trained


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [
        ("lora", "gpt2", {"lora_A", "lora_B"}),
        ("dora", "llama", {"lora_A", "lora_B", "lora_magnitude_vector"}),
        ("adalora", "gpt2", {"lora_A", "lora_B", "lora_E"}),
        ("ia3", "llama", {"ia3_l"}),
        ("bottleneck", "gpt2", {"bottleneck"}),
        ("prefix", "llama", {"prefix"}),
        ("layer_norm", "gpt2", {"ln_1", "ln_2", "ln_f"}),
        ("layer_norm", "qwen3", {"q_norm", "k_norm", "input_layernorm", "post_attention_layernorm", "norm"}),
        ("top_layers", "gpt2", {"1", "ln_f"}),
        ("top_layers", "llama", {"1", "norm"}),
        ("top_layers", "gpt_neox", {"1", "final_layer_norm"}),
    ],
)
def test_only_what_is_declared_changes(name: str, family: str, expected: set[str]) -> None:
    backbone = adapted(name, family, packing="padded" if name == "prefix" else "packed")
    model = TaskModel(backbone, {"ner": nn.Linear(backbone.width, 3)})
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
    batch = batch_of(tiny.sequences(LENGTHS))
    model(batch, "ner").square().sum().backward()
    optimizer.step()
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    inside = {key for key in changed if not key.startswith("heads.")}
    assert changed - inside == {"heads.ner.weight", "heads.ner.bias"}
    assert all(expected & set(key.split(".")) for key in inside)
    assert expected <= {part for key in inside for part in key.split(".")}
    # A checkpoint holds these alone.
    assert {key.replace("/", ".") for key in model.trained.state_dict() if "backbone/state" not in key} >= changed
    assert sum(one.numel() for one in model.trained.parameters()) == sum(
        one.numel() for one in model.parameters() if one.requires_grad
    )


def test_the_uppermost_layers_are_found_whatever_a_family_calls_them() -> None:
    trained = [name for name, _ in trained_parameters(adapted("top_layers", "mpt", packing="padded"))]
    assert {name.split(".")[1] for name in trained} == {"blocks", "norm_f"}
    assert {name.split(".")[2] for name in trained if ".blocks." in name} == {"1"}


def test_a_model_whose_layers_are_not_found_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "layer_of", lambda _: None)
    with pytest.raises(BackboneError, match="adapter=top_layers finds no layers in models of the family 'gpt2'"):
        adapted("top_layers")


@pytest.mark.parametrize("name", [*BY_PEFT, "prefix"])
def test_parameters_are_counted_as_peft_counts_them(name: str) -> None:
    backbone = adapted(name, packing="padded" if name == "prefix" else "packed")
    counts = count_parameters(TaskModel(backbone, {"ner": nn.Linear(backbone.width, 3)}))
    trained, everything = adapter_of(backbone).model.get_nb_trainable_parameters()  # type: ignore[attr-defined]
    fixed = sum(p.numel() for n, p in backbone.named_parameters() if n.endswith("ranknum.default"))
    assert counts.trained == trained
    assert counts.backbone == everything
    assert fixed == 0 or name == "adalora"
    assert counts.head == 3 * backbone.width + 3
    assert counts.share == trained / everything


def test_adalora_leaves_the_ranks_that_matter() -> None:
    backbone = adapted("adalora", rank=2, first_rank=6, begin=0.2, end=0.2)
    adapter = adapter_of(backbone)
    assert isinstance(adapter, AdaLoRAAdapter)
    batch, left = batch_of(tiny.sequences(LENGTHS)), []
    parameters = [one for _, one in trained_parameters(backbone)]
    optimizer = torch.optim.SGD(parameters, lr=1e-3)
    for step in range(1, 11):
        (loss_of(backbone(batch), batch) + adapter.penalty()).backward()
        optimizer.step()
        adapter.step_ended(step, 10)
        optimizer.zero_grad()
        middles = [one for name, one in backbone.named_parameters() if "lora_E" in name]
        left.append(sum(int(one.count_nonzero()) for one in middles))
    matrices = len(middles)
    assert left[:2] == [6 * matrices] * 2, "at first all"
    assert left == sorted(left, reverse=True)
    assert left[-3:] == [2 * matrices] * 3, "in the end the mean rank that was asked for"


@pytest.mark.parametrize("name", ["lora", "rslora", "adalora"])
def test_the_automatic_rate_changes_the_weights_as_much_whatever_rank_and_alpha(name: str) -> None:
    more = {"first_rank": 32} if name == "adalora" else {}
    changes = [
        change_by_three_steps(name, rank=rank, alpha=alpha, **more)
        for rank, alpha in [(8, 16.0), (8, 64.0), (2, 4.0), (32, 64.0), (32, 16.0)]
    ]
    assert max(changes) < 2.5 * min(changes), changes


def change_by_three_steps(name: str, **settings: Any) -> float:
    """Return how far hidden states are moved by three steps of Adam at `rate_scale` times one rate."""
    backbone = adapted(name, **settings)
    config = configure(HOST, task="ner", adapter={"name": name, **settings}).adapter
    batch = batch_of(tiny.sequences(LENGTHS))
    with torch.no_grad():  # as an adapter begins: it adds nothing
        for key, parameter in trained_parameters(backbone):
            parameter.mul_(0 if "lora_B" in key else 1)
    before_TD = backbone(batch).detach()
    optimizer = torch.optim.Adam([one for _, one in trained_parameters(backbone)], lr=1e-4 * config.rate_scale)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(backbone(batch), batch).backward()
        optimizer.step()
    return float((backbone(batch).detach() - before_TD).norm())


# --- files


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft asks transformers by an old name
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", [*BY_PEFT, "prefix"])
def test_peft_loads_what_was_saved(name: str, family: str, tmp_path: Path) -> None:
    backbone = adapted(name, family, packing="padded")
    adapter_of(backbone).save(tmp_path / "adapter")
    assert {file.name for file in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    theirs = peft.PeftModel.from_pretrained(tiny.model(family), str(tmp_path / "adapter")).eval()
    features = tiny.sequences([9])
    with torch.no_grad():
        ids_1T = torch.tensor(features[0].input_ids).long()[None]
        hidden_TD = theirs(input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T)).last_hidden_state[0]
        torch.testing.assert_close(backbone(batch_of(features)), hidden_TD, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [*PACKING, "prefix"])
def test_what_is_saved_is_loaded(name: str, tmp_path: Path) -> None:
    packing: Packing = "padded" if name == "prefix" else "packed"
    backbone, other = adapted(name, packing=packing), adapted(name, packing=packing)
    adapter_of(backbone).save(tmp_path / "adapter")
    for _, parameter in trained_parameters(other):
        nn.init.zeros_(parameter)
    adapter_of(other).load(tmp_path / "adapter")
    batch = batch_of(tiny.sequences(LENGTHS))
    with torch.no_grad():
        assert torch.equal(other(batch), backbone(batch))


class Payload:
    """Unpickled, it would fail the test."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize("name", ["lora", "bottleneck"])
def test_a_damaged_or_foreign_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    backbone = adapted(name)
    folder = tmp_path / "adapter"
    adapter_of(backbone).save(folder)
    (file,) = folder.glob("*.safetensors")
    whole = file.read_bytes()
    tensors = load(whole)
    first, other = sorted(tensors)[:2]

    def refused() -> str:
        before = {key: value.clone() for key, value in backbone.state_dict().items()}
        with pytest.raises(RunError) as said:
            adapter_of(backbone).load(folder)
        assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())
        assert file.name in str(said.value) and "\n" not in str(said.value)
        return str(said.value)

    file.write_bytes(whole[:-100])
    refused()
    file.write_bytes(pickle.dumps(Payload()))
    refused()
    save_file({**tensors, first: torch.zeros(2, 3)}, file)
    assert f"'{first}' is [2, 3], and should be {list(tensors[first].shape)}" in refused()
    save_file({key: value for key, value in tensors.items() if key != other}, file)
    assert f"'{other}' is not there" in refused()
    save_file({**tensors, "more": torch.zeros(1)}, file)
    assert "'more' is [1], and should be not there" in refused()
    file.rename(file.with_suffix(".bin"))
    torch.save({"state": Payload()}, file.with_suffix(".bin"))
    torch.save({"state": Payload()}, folder / "adapter_model.bin")
    refused()


# --- configuration


def test_options_and_settings(tmp_path: Path) -> None:
    config = compose(["task=ner", "adapter=lora", "adapter.rank=4", "adapter.targets=[c_attn]"], HOST).config
    assert config.adapter == LoRAConfig(rank=4, targets=("c_attn",))
    assert configure(HOST, task="ner", adapter={"option": "lora", "rank": 4, "targets": ["c_attn"]}) == config
    assert configure(HOST, task="ner", adapter=LoRAConfig(rank=4, targets=("c_attn",))) == config
    assert from_document(to_document(config), HOST) == config


@pytest.mark.parametrize("name", HOST.names("adapter"))
def test_every_adapter_is_an_option(name: str) -> None:
    assert configure(HOST, task="ner", adapter=name).adapter.name == name


def test_a_frozen_backbone_is_one_choice_by_two_names() -> None:
    by_adapter = configure(HOST, task="ner", adapter="frozen")
    assert by_adapter == configure(HOST, task="ner", backbone={"freeze": True})
    assert by_adapter.backbone.freeze and by_adapter.adapter.name == "frozen"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["adapter=lora", "adapter.rnak=4"], "adapter.rnak: there is no such setting. Did you mean 'rank'?"),
        (["adapter=lora", "adapter.rank=0"], "adapter.rank=0: must be greater than 0."),
        (["adapter=ia3", "adapter.rank=4"], "adapter.rank: there is no such setting."),
        (["adapter=adalora", "adapter.rank=20"], "first_rank must be at least rank"),
        (
            ["adapter=lora", "backbone.freeze=true"],
            "adapter=lora trains parts of the backbone, and backbone.freeze=true",
        ),
        (["adapter=prefix", "backbone.packing=packed"], "backbone.packing=packed does not go with adapter=prefix"),
        (
            ["task=summarization", "adapter=prefix"],
            "adapter=prefix does not go with task=summarization, a task of the family 'generation'.",
        ),
        (
            ["adapter=prefix", "backbone.attention=0.5"],
            "backbone.attention asks for different directions in different layers, which padded batches do not have.",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_line(overrides: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as said:
        compose(["task=ner", *overrides] if not overrides[0].startswith("task=") else overrides, HOST)
    assert line in str(said.value) and "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("name", "settings", "line"),
    [
        ("lora", {"targets": ["nowhere"]}, "adapter=lora cannot be put on a model of the family 'gpt2'"),
        (
            "lora",
            {"targets": ["c_attn", "wte"]},
            "adapter=lora cannot be put on 'wte', which is no linear layer inside the backbone; adapter.targets may name "
            "c_attn, c_fc, c_proj.",
        ),
        ("dora", {"targets": ["c_attn", "wpe"]}, "adapter=dora cannot be put on 'wpe'"),
        ("top_layers", {"layers": 3}, "adapter.layers=3, and the backbone has 2."),
    ],
)
def test_what_finds_no_place_in_the_model_is_refused(name: str, settings: dict[str, Any], line: str) -> None:
    with pytest.raises(BackboneError) as said:
        adapted(name, **settings)
    assert line in str(said.value) and "\n" not in str(said.value)


@pytest.mark.parametrize("name", ["lora", "adalora"])
def test_an_output_matrix_takes_no_adapter(name: str) -> None:
    backbone = writing("gpt2")
    config = configure(HOST, task="summarization", adapter={"name": name, "targets": ["c_attn", "lm_head"]})
    with pytest.raises(
        BackboneError, match=f"adapter={name} cannot be put on 'lm_head', which is no linear layer inside"
    ):
        adapt(backbone, config, HOST)
    every = adapt(writing("gpt2"), configure(HOST, task="summarization", adapter=name), HOST)
    assert every.language_model is not None
    assert type(every.language_model.get_output_embeddings()) is nn.Linear, "adapter.targets=all leaves it out"


def test_a_prefix_takes_its_room_from_the_context() -> None:
    config = configure(HOST, task="ner", adapter={"name": "prefix", "tokens": 30}).adapter
    backbone = adapted("prefix", packing="padded", tokens=30)
    leave_room(backbone, config)
    assert backbone.info.context == tiny.CONTEXT - 30
    with torch.no_grad():
        assert len(backbone(batch_of(tiny.sequences([10])))) == 10
    with pytest.raises(BackboneError, match="none is left for the text"):
        leave_room(backbone, config)
