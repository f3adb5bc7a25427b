"""How the task reads items and histories, which items it compares, and what the head makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vertebra.config.schema import BackboneConfig, DataConfig, GPUConfig, RunConfig, TaskChoice
from vertebra.data.encode import encode_split
from vertebra.engine.devices import Devices, set_up
from vertebra.engine.evaluate import share
from vertebra.engine.loading import load_tokenizer
from vertebra.engine.model import TaskModel
from vertebra.engine.packing import pack
from vertebra.host.manager import create_host
from vertebra.runs.prepare import Prepared, prepare
from vertebra.tasks.features import Features
from vertebra_recommendation.config import RecommendationConfig
from vertebra_recommendation.task import Recommendation

TINY = {"n_layer": 1, "n_embd": 32, "n_head": 2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
SETTINGS = {"width": 16, "dropout": 0.0, "item_id_dropout": 0.0, "max_items": 8}
HISTORIES = pytest.mark.parametrize("history", ["items", "text"])


@cache
def prepared(freeze: bool = False, **settings: Any) -> tuple[Prepared, TaskModel, Devices]:
    data = DataConfig(format="recommendation_sample", options={"users": 20, "series": 6})
    config = RunConfig(
        tasks=(TaskChoice("recommendation", RecommendationConfig(**{**SETTINGS, **settings}), data),),
        backbone=BackboneConfig(init="random", config=TINY, freeze=freeze),
        gpu=GPUConfig(device="cpu", precision="fp32", threads=1),
    )
    devices = set_up(config.gpu)
    return (*prepare(config, devices, create_host()), devices)


def recommender(one: Prepared) -> Recommendation:
    assert isinstance(one.task, Recommendation)
    return one.task


# --- sequences and candidates


@HISTORIES
def test_each_next_item_of_a_row_is_the_target_of_one_place(history: str) -> None:
    made, _, _ = prepared(history=history)
    task = recommender(made)
    for row, features in zip(made.splits.rows["train"], made.by_example("train"), strict=True):
        targets = [number for one in features for number in one.target]
        assert [task.catalogue.items[number] for number in targets] == row["next"]
        assert all(len(one.positions) == len(one.target) == one.n_targets for one in features)
        assert all(len(one.note["items"]) <= 8 for one in features)
    for row, (one,) in zip(made.splits.rows["test"], made.by_example("test"), strict=True):
        assert [task.catalogue.items[number] for number in one.target] == row["next"]
        assert [task.catalogue.items[number] for number in one.note["items"]] == row["history"][-8:]
        assert [task.catalogue.items[number] for number in one.note["seen"]] == row["history"]


@pytest.mark.parametrize("policy", ["auto", "window", "truncate"])
def test_texts_over_the_context_are_cut_in_whole_items_and_the_latest_stay(policy: Any) -> None:
    made, _, _ = prepared(history="text", max_items=20)
    task, tokenizer = recommender(made), load_tokenizer(BackboneConfig(), create_host())
    for split in ("train", "test"):
        rows = [{**row, "id": str(number)} for number, row in enumerate(made.splits.rows[split])]
        encoded = encode_split(task, rows, tokenizer, context=40, too_long=policy).features
        assert len(encoded) >= len(rows) and any(len(one) > 20 for one in encoded)
        for number, row in enumerate(rows):
            pieces = [one for one in encoded if one.example == number]
            targets = [task.catalogue.items[target] for one in pieces for target in one.target]
            assert targets == row["next"] if policy != "truncate" else targets[-1:] == row["next"][-1:]
            for one in pieces:
                items = [task.catalogue.items[item] for item in one.note["items"]]
                texts = [f" {task.catalogue.texts[item]}\n" for item in one.note["items"]]
                assert tokenizer.decode(one.input_ids[1:]) == "".join(texts) and len(one) <= 40
                read = [tokenizer.decode(one.input_ids[1 : place + 1]) for place in one.positions]
                assert read == ["".join(texts[: len(texts) - left]) for left in range(len(read))][::-1]
                whole = [*row["history"], *row["next"]]
                assert "|".join([*items, targets[-1]] if one is pieces[-1] else items) in "|".join(whole)


def test_an_item_over_the_context_alone_is_read_from_its_beginning() -> None:
    made, _, _ = prepared(history="text", max_items=20)
    task = recommender(made)
    row = made.splits.rows["test"][0]
    (whole,) = task.encode(row, load_tokenizer(BackboneConfig(), create_host()))
    for (one,) in (task.windows(whole, 4), [task.shorten(whole, 4)]):
        assert one.note["items"] == whole.note["items"][-1:] and one.positions.tolist() == [3]
        last = whole.note["ends"][-2] + 1
        assert one.input_ids.tolist() == [whole.input_ids[0], *whole.input_ids[last : last + 3]]


@pytest.mark.parametrize("negatives", [None, 3, 1000])
def test_a_pass_has_all_items_that_it_needs_once_and_none_that_training_must_not_know(negatives: int | None) -> None:
    made, _, _ = prepared(negatives=negatives)
    task = recommender(made)
    histories = [one for row in made.by_example("train")[:3] for one in row]
    whole = task.complete(histories, 7)
    items = [one.note["item"] for one in whole if "item" in one.note]
    needed = {number for one in histories for number in (*one.note["items"], *one.target)}
    assert len(set(items)) == len(items) and needed <= set(items) <= set(task.catalogue.warm.tolist())
    assert whole[: len(histories)] == histories and all(one.n_targets == 0 for one in whole[len(histories) :])
    again = [one.note for one in task.complete(histories, 7)]
    assert again == [one.note for one in whole]
    if negatives == 3:
        assert len(items) <= len(needed) + 3
        drawn = {tuple(one.note["item"] for one in task.complete(histories[:1], seed)[1:]) for seed in range(10)}
        assert len(drawn) > 1
    else:
        assert set(items) == set(task.catalogue.warm.tolist())
        assert all(one.note["log_chance"] == 0 for one in whole if "item" in one.note)


def test_the_chance_of_an_item_to_be_a_candidate_is_what_drawing_often_finds() -> None:
    task = Recommendation(RecommendationConfig(negatives=5))
    task.read_tables({"items": [{"item": f"{n}", "title": "", "text": "x"} for n in range(20)]})
    random = np.random.default_rng(0)
    share_I = np.arange(20) / np.arange(20).sum()
    task.fit([{"history": [], "next": [f"{n}" for n in np.repeat(np.arange(20), np.arange(20))]}])
    task.shared = [Features([1], note={"item": number, "log_chance": 0.0}) for number in range(20)]
    times, chance = np.zeros(20), np.zeros(20)
    for seed in range(3000):
        drawn = random.choice(20, size=6, p=share_I).tolist()
        for one in task.complete([Features([1], target=drawn, positions=[0] * 6, note={"items": []})], seed)[1:]:
            times[one.note["item"]] += 1
            chance[one.note["item"]] = np.exp(one.note["log_chance"])
    assert times[0] == 0  # nobody took it
    assert np.abs(times[1:] / 3000 - chance[1:]).max() < 0.04


# --- outputs


def outputs(made: Prepared, model: TaskModel, features: Sequence[Features]) -> list[Tensor]:
    """Return what the model makes of each sequence, all in one batch."""
    batch = pack(features, made.task.collate)
    with torch.no_grad():
        parts = model(batch, "recommendation").split(list(batch.position_counts))
    order = {id(one): part for one, part in zip(batch.features, parts, strict=True)}
    return [order[id(one)] for one in features]


@HISTORIES
@pytest.mark.parametrize("item_ids", [True, False])
def test_a_sequence_has_the_same_scores_alone_and_among_others(
    history: str, item_ids: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vertebra_recommendation.head.TOGETHER", 7)  # several groups of like length
    made, model, devices = prepared(history=history, item_ids=item_ids)
    share(model, made.task, devices)
    features = [one for row in made.by_example("train") for one in row] + made.encoded["test"].features
    together = outputs(made, model, features)
    for one, scores in list(zip(features, together, strict=True))[::7]:
        torch.testing.assert_close(outputs(made, model, [one])[0], scores, rtol=1e-4, atol=1e-5)
        assert scores.shape == (one.n_targets, len(recommender(made).catalogue))


@HISTORIES
def test_training_ranks_as_evaluation_does_and_learns_from_no_item_that_comes_later(history: str) -> None:
    made, model, devices = prepared(history=history)
    model.eval()
    share(model, made.task, devices)
    task = recommender(made)
    histories = [one for row in made.by_example("train")[:4] for one in row]
    batch = pack(task.complete(histories, 1), task.collate)
    items = [one.note["item"] for one in batch.features if "item" in one.note]
    with torch.no_grad():
        trained = model(batch, "recommendation")
    of_catalogue = pack(histories, task.collate)
    with torch.no_grad():
        evaluated = model(of_catalogue, "recommendation")
    ordered = [one for one in batch.features if "items" in one.note]
    assert [id(one) for one in ordered] == [id(one) for one in of_catalogue.features]
    torch.testing.assert_close(trained, evaluated[:, items], rtol=1e-4, atol=1e-5)
    assert batch.targets is not None and of_catalogue.targets is not None
    assert [items[column] for column in batch.targets.tolist()] == of_catalogue.targets.tolist()
    # The scores of a place do not change with what follows it.
    longest = max(histories, key=lambda one: len(one.note["items"]))
    if history == "items":
        other = replace(longest, note={**longest.note, "items": [*longest.note["items"][:-1], items[0]]})
    else:
        other = replace(longest, input_ids=np.append(longest.input_ids[:-1], longest.input_ids[0]))
    one, changed = outputs(made, model, [longest])[0], outputs(made, model, [other])[0]
    torch.testing.assert_close(one[:-1], changed[:-1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(one[-1], changed[-1], atol=1e-5)


def test_the_loss_is_the_cross_entropy_of_corrected_scores() -> None:
    made, model, _ = prepared(negatives=4)
    task = recommender(made)
    model.eval()
    batch = pack(task.complete(made.by_example("train")[0], 3), task.collate)
    chances = torch.tensor([one.note["log_chance"] for one in batch.features if "item" in one.note])
    assert (chances < 0).any()
    plain = pack(
        [replace(one, note={**one.note, "log_chance": 0.0}) if "item" in one.note else one for one in batch.features],
        task.collate,
    )
    with torch.no_grad():
        corrected, scores = model(batch, "recommendation"), model(plain, "recommendation")
    torch.testing.assert_close(corrected, scores - chances)
    assert batch.targets is not None
    assert float(task.loss(corrected, batch.targets)) == pytest.approx(
        float(F.cross_entropy(scores - chances, batch.targets))
    )
    model.heads.train()  # nothing is dropped here
    summed = model(batch, "recommendation")
    assert summed.shape == (1,), "in training the scores are not kept"
    torch.testing.assert_close(task.loss(summed, batch.targets), task.loss(corrected, batch.targets))
    model.eval()


def test_in_bf16_the_loss_is_nearly_that_of_fp32_and_scores_are_fp32() -> None:
    made, model, devices = prepared()
    task = recommender(made)
    histories = [one for row in made.by_example("train")[:8] for one in row]
    batch = pack(task.complete(histories, 1), task.collate)
    model.train()  # nothing is dropped here
    with torch.no_grad():
        exact = model(batch, "recommendation")
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(batch, "recommendation")
    assert rounded.dtype == torch.float32 and float(rounded) != float(exact)
    torch.testing.assert_close(rounded, exact, rtol=5e-3, atol=0)
    model.eval()
    share(model, task, devices)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert outputs(made, model, histories)[0].dtype == torch.float32


def test_a_cold_item_has_its_text_alone() -> None:
    made, model, devices = prepared.__wrapped__()  # the weights are changed here
    share(model, made.task, devices)
    task, head = recommender(made), model.heads["recommendation"]
    before: Tensor = head.catalogue_IW.clone()
    with torch.no_grad():
        head.ids.weight.add_(1.0)
    share(model, task, devices)
    moved = (head.catalogue_IW - before).abs().sum(1) > 1e-3
    assert moved.tolist() == (task.catalogue.counts > 0).tolist() and not moved.all()


def test_frozen_and_unfrozen_backbones_give_the_same_scores_at_first() -> None:
    made, model, _ = prepared(freeze=True)
    assert all(one.hidden is not None for one in made.task.shared)
    batch = pack(made.task.complete(made.by_example("train")[0], 1), made.task.collate)
    assert batch.hidden_PD is not None
    other, trainable, _ = prepared()
    trainable.eval(), model.eval()
    with torch.no_grad():
        frozen = model(batch, "recommendation")
        plain = trainable(
            pack(other.task.complete(other.by_example("train")[0], 1), other.task.collate), "recommendation"
        )
    torch.testing.assert_close(frozen, plain, rtol=1e-4, atol=1e-5)
