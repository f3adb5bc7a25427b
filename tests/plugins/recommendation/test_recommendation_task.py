"""The task from end to end: sequences, candidates, training, prediction, new items, exact resume, several processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import vertebra
from vertebra.cli.main import main
from vertebra.config.schema import BackboneConfig, DataConfig, GPUConfig, RunConfig, TaskChoice
from vertebra.data.encode import encode_split
from vertebra.engine.devices import Devices, set_up
from vertebra.engine.evaluate import share
from vertebra.engine.loading import load_tokenizer
from vertebra.engine.model import TaskModel
from vertebra.engine.packing import pack
from vertebra.errors import ConfigError, DataError, RunError
from vertebra.host.manager import create_host
from vertebra.runs.prepare import Prepared, prepare
from vertebra.tasks.features import Features
from vertebra_recommendation.baselines import Popularity
from vertebra_recommendation.config import RecommendationConfig
from vertebra_recommendation.ranks import ndcg
from vertebra_recommendation.task import Recommendation

TINY = {"n_layer": 1, "n_embd": 32, "n_head": 2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
SETTINGS = {"width": 16, "dropout": 0.0, "item_id_dropout": 0.0, "max_items": 8}
SMALL = [
    "task=recommendation",
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2, resid_pdrop: 0.0, embd_pdrop: 0.0, attn_pdrop: 0.0}",
    "task.width=16",
    "task.dropout=0",
    "task.item_id_dropout=0",
    "data.options={users: 30, series: 6, cold_items: 0.1}",
    "gpu.threads=1",
    "gpu.precision=fp32",
    "trainer.batch_size=8",
    "trainer.learning_rate=1e-2",
    "trainer.log_every=1",
    "trainer.trackers=[]",
]
HISTORIES = pytest.mark.parametrize("history", ["items", "text"])
ITEMS_ALWAYS = pytest.mark.parametrize("history", ["items", pytest.param("text", marks=pytest.mark.slow)])


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


# --- whole runs


def run(folder: Path, *arguments: str) -> dict[str, dict[str, float]]:
    assert main(["train", *SMALL, "gpu=cpu", f"hydra.run.dir={folder}", *arguments]) == 0
    scores: dict[str, dict[str, float]] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return scores


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recommendation") / "run"
    run(folder, "trainer.epochs=8", "data.options={users: 120, series: 8, cold_items: 0.1}", "task.sampled=true")
    return folder


def test_a_tiny_model_learns_what_follows_what_better_than_popularity(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    loaded = vertebra.load(trained)
    task = loaded.task
    popularity = Popularity(task)  # type: ignore[arg-type]
    rows = [{**line["input"], "next": [line["reference"]["item"]]} for line in lines]
    ours = np.mean([ndcg(line["prediction"]["rank"]) for line in lines])
    theirs = np.mean([ndcg(one["rank"]) for one in popularity.predict(rows)])
    assert ours > 1.3 * theirs
    scores = json.loads((trained / "metrics.json").read_text(encoding="utf-8"))["test"]
    assert scores["hr_at_10_sampled_100"] >= scores["hr_at_10"]
    assert 0 < scores["coverage_at_10"] <= 1


def test_a_loaded_run_recommends_as_it_did_and_without_a_next_item(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    loaded = vertebra.load(trained)
    some = lines[:5] + lines[-5:]
    for prediction, line in zip(loaded.predict([line["input"] for line in some]), some, strict=True):
        assert [one["item"] for one in prediction["items"]] == [one["item"] for one in line["prediction"]["items"]]
        assert [one["score"] for one in prediction["items"]] == pytest.approx(
            [one["score"] for one in line["prediction"]["items"]], rel=1e-3
        )
        assert prediction["rank"] is None and line["prediction"]["rank"]["of"] > 10
    (by_text,) = loaded.predict([", ".join(some[0]["input"]["history"])])
    assert by_text["items"] == loaded.predict([some[0]["input"]])[0]["items"]
    assert len(loaded.predict([{"history": []}])[0]["items"]) == 10
    with pytest.raises(DataError, match="item 'x1' is not among the 32 items of the catalogue"):
        loaded.predict([{"history": ["x1"]}])


def test_new_items_can_be_recommended_by_their_text(trained: Path) -> None:
    loaded = vertebra.load(trained)
    task = loaded.task
    assert isinstance(task, Recommendation)
    texts = {"item": "new", "title": "New", "text": task.catalogue.texts[5]}
    task.read_tables({"items": [texts]})
    loaded.encode_shared()
    share(loaded.model, task, loaded.devices)
    assert len(task.catalogue) == 33 and task.catalogue.taken[-1] == 0
    assert len(loaded.predict([{"history": ["new", "1"]}])[0]["items"]) == 10


def test_evaluate_repeats_the_scores(trained: Path, tmp_path: Path) -> None:
    assert main(["evaluate", str(trained), "--output", str(tmp_path / "again")]) == 0
    again = json.loads((tmp_path / "again" / "metrics.json").read_text(encoding="utf-8"))
    before = json.loads((trained / "metrics.json").read_text(encoding="utf-8"))
    for split, scores in before.items():
        assert again[split] == pytest.approx(scores, abs=0.02)


@ITEMS_ALWAYS
def test_a_stopped_run_ends_as_the_uninterrupted_one(history: str, tmp_path: Path, monkeypatch: Any) -> None:
    arguments = ["trainer.max_steps=4", "trainer.checkpoint_every=2", f"task.history={history}", "task.negatives=4"]
    arguments += ["task.item_id_dropout=0.3", "task.dropout=0.2"]
    run(tmp_path / "whole", *arguments)
    from vertebra.engine.trainer import Trainer

    inner = Trainer._save

    def save_and_fail(self: Trainer) -> None:
        inner(self)
        raise RunError("stopped here")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save", save_and_fail)
        assert main(["train", *SMALL, "gpu=cpu", f"hydra.run.dir={tmp_path / 'part'}", *arguments]) == 2
    assert main(["resume", str(tmp_path / "part")]) == 0
    for name in ("model/heads.safetensors", "model/backbone/model.safetensors", "predictions.jsonl"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_two_processes_and_smaller_passes_learn_what_one_learns(tmp_path: Path) -> None:
    arguments = ["trainer.max_steps=5", "trainer.learning_rate=1e-3"]
    one = run(tmp_path / "one", *arguments)
    run(tmp_path / "pieces", *arguments, "gpu.token_budget=2")
    two = [*SMALL, *arguments, "gpu=ddp", "gpu.device=cpu", "gpu.processes=2", f"hydra.run.dir={tmp_path / 'two'}"]
    assert main(["train", *two]) == 0
    logs = {
        name: [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("one", "pieces", "two")
    }
    for name in ("pieces", "two"):
        for alone, other in zip(logs["one"], logs[name], strict=True):
            assert other["loss"] == pytest.approx(alone["loss"], rel=1e-4)
            assert other["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=1e-3)
        scores = json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8"))
        assert scores["test"] == pytest.approx(one["test"], abs=1e-3)


@ITEMS_ALWAYS
def test_a_frozen_backbone_reads_items_once_and_the_head_learns(history: str, tmp_path: Path) -> None:
    run(tmp_path / "run", "backbone.freeze=true", "trainer.epochs=3", f"task.history={history}")
    losses = [
        json.loads(line)["loss"] for line in (tmp_path / "run/log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert np.mean(losses[-3:]) < losses[0]


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


# --- bad input


def test_rows_with_unknown_items_or_nothing_to_predict_are_refused() -> None:
    task = Recommendation()
    task.read_tables({"items": [{"item": "alpha", "title": "A", "text": "a"}]})
    with pytest.raises(DataError, match=r"column 'history': item 'alfa' is not among .* Did you mean 'alpha'\?"):
        task.check({"history": ["alfa"], "next": ["alpha"]})
    for item in (["alpha"], 5, None):
        with pytest.raises(DataError, match="column 'history': an item is named by a text, not by"):
            task.check({"history": [item]})
    with pytest.raises(DataError, match="column 'next' is empty"):
        task.check({"history": ["alpha"], "next": []})
    with pytest.raises(DataError, match=r"Row 'r' has 2 items in 'next'; a row to evaluate has one\."):
        task.reference({"id": "r", "history": [], "next": ["alpha", "alpha"]})


def test_a_table_with_empty_or_repeated_items_is_refused() -> None:
    task = Recommendation()
    with pytest.raises(DataError, match=r"items row 2: column 'text' is empty \(item 'b'\)"):
        task.read_tables({"items": [{"item": "a", "title": "", "text": "x"}, {"item": "b", "title": "", "text": " "}]})
    with pytest.raises(DataError, match="items row 2: item 'a' is that of row 1, too"):
        task.read_tables({"items": [{"item": "a", "title": "", "text": "x"}] * 2})


def test_data_without_the_table_of_items_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.jsonl").write_text('{"user": "a", "history": [], "next": ["1"]}\n', encoding="utf-8")
    assert (
        main(
            [
                "train",
                "task=recommendation",
                "data.format=json",
                f"data.path={tmp_path}",
                f"hydra.run.dir={tmp_path / 'run'}",
            ]
        )
        == 2
    )
    assert "The data have no table 'items', which task 'recommendation' needs" in capsys.readouterr().err


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"task\.width=10 must be a multiple of task\.heads=4"):
        Recommendation(RecommendationConfig(width=10, heads=4))


def test_runs_of_one_process_each_know_the_items_that_they_share(tmp_path: Path) -> None:
    few = [*SMALL, "trainer.max_steps=2", "data.limit=10", f"hydra.sweep.dir='{tmp_path}'"]
    assert main(["train", "--multirun", *few, "seed=1,2"]) == 0
    jobs = json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))["jobs"]
    coverage = [
        json.loads((tmp_path / job["folder"] / "metrics.json").read_text(encoding="utf-8"))["test"]["coverage_at_10"]
        for job in jobs
    ]
    assert len(coverage) == 2 and min(coverage) > 0
