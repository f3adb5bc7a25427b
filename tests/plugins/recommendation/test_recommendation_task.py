"""The task from end to end: training, prediction, new items, exact resume, several processes, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vertebra
from vertebra.cli.main import main
from vertebra.engine.evaluate import share
from vertebra.errors import ConfigError, DataError, RunError
from vertebra_recommendation.baselines import Popularity
from vertebra_recommendation.config import RecommendationConfig
from vertebra_recommendation.ranks import ndcg
from vertebra_recommendation.task import Recommendation

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
ITEMS_ALWAYS = pytest.mark.parametrize("history", ["items", pytest.param("text", marks=pytest.mark.slow)])


def run(folder: Path, *arguments: str) -> dict[str, dict[str, float]]:
    assert main(["train", *SMALL, "gpu=cpu", f"hydra.run.dir={folder}", *arguments]) == 0
    scores: dict[str, dict[str, float]] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return scores


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recommendation") / "run"
    more = "trainer.more_metrics=[hr_at_1,hr_at_20]"
    run(folder, "trainer.epochs=8", "data.options={users: 120, series: 8, cold_items: 0.1}", "task.sampled=true", more)
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
    assert scores["hr_at_1"] <= scores["hr_at_10"] <= scores["hr_at_20"] < 1
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
