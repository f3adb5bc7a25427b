"""Whole runs of the plugin's tasks on small data, from the command line and from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import vertebra
from vertebra.cli.main import main

SMALL = [
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}",
    "gpu=cpu",
    "gpu.threads=1",
    "trainer.trackers=[]",
]
SHORT = [*SMALL, "trainer.max_steps=4", "trainer.learning_rate=1e-2", "data.limit=40"]


def train(folder: Path, *arguments: str) -> Path:
    """Run the command line in this process; it must succeed."""
    assert main(["train", *arguments, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def qa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "qa", "task=qa", *SHORT, "task.window=32", "task.overlap=8")


@pytest.fixture(scope="module")
def selection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "selection", "task=answer_selection", *SHORT)


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_qa_run_says_everything(qa: Path) -> None:
    scores = read(qa, "metrics.json")["test"]
    assert set(scores) == {"answer_f1", "exact_match"} and 0 <= scores["exact_match"] <= scores["answer_f1"] <= 1
    assert read(qa, "data.json")["splits"]["train"]["sequences"] > 40, "contexts were read in windows"
    assert read(qa, "model/tasks.json")["qa"]["unanswerable"] is True
    tables = {figure["title"] for figure in read(qa, "figures.json")["test"]}
    assert tables == {"With and without an answer", "By question word", "By length of the answer"}
    for line in lines(qa / "predictions.jsonl"):
        prediction, context = line["prediction"], line["input"]["context"]
        if prediction["text"]:
            assert context[prediction["start"] : prediction["end"]] == prediction["text"]
        assert 0 <= prediction["score"] <= 1 and prediction["n_best"][0]["text"] == prediction["text"]
        assert line["right"] == (line["score"] == 1)


def test_right_answers_are_no_errors_in_the_report(qa: Path) -> None:
    report = (qa / "report.html").read_text(encoding="utf-8")
    right = [line["right"] for line in lines(qa / "predictions.jsonl") if line["split"] == "test"]
    assert any(right) and f"{right.count(False)} of {len(right)} predictions differ" in report


def test_answers_are_predicted_from_python_and_from_a_file(qa: Path, tmp_path: Path) -> None:
    row = {"question": "Where was Tamor born ?", "context": "Tamor was born in Lineville . " * 20}
    (prediction,) = vertebra.load(qa, device="cpu").predict([row])
    assert set(prediction) == {"text", "start", "end", "score", "n_best"}
    given, out = tmp_path / "new.jsonl", tmp_path / "out.jsonl"
    given.write_text(json.dumps(row), encoding="utf-8")
    assert main(["predict", str(qa), "--file", str(given), "--output", str(out), "--device", "cpu"]) == 0
    assert lines(out)[0]["prediction"]["text"] == prediction["text"]


@pytest.mark.parametrize(
    ("row", "message"),
    [({"question": " ", "context": "a"}, "question is empty"), ({"question": "a", "context": ""}, "context is empty")],
)
def test_empty_texts_are_refused_at_prediction(qa: Path, row: dict[str, str], message: str) -> None:
    with pytest.raises(vertebra.VertebraError, match=f"Row 1: the {message}"):
        vertebra.load(qa, device="cpu").predict([row])


def test_a_run_is_evaluated_on_squad_s_json(qa: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paragraph = {
        "context": "In Paris.",
        "qas": [
            {"question": "Where?", "id": "1", "answers": [{"text": "Paris", "answer_start": 3}]},
            {"question": "When?", "id": "2", "answers": [], "is_impossible": True},
        ],
    }
    file = tmp_path / "dev.json"
    file.write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}), encoding="utf-8")
    run = train(
        tmp_path / "run",
        "task=qa",
        "data=qa/squad",
        f"data.path={file}",
        "data.splits={valid: dev.json}",
        *SHORT,
    )
    out = tmp_path / "out"
    assert main(["evaluate", str(run), "--file", str(file), "--output", str(out), "--device", "cpu"]) == 0
    assert [line["id"] for line in lines(out / "predictions.jsonl")] == ["1", "2"]
    assert "answer_f1" in capsys.readouterr().out


def test_an_answer_selection_run_ranks_candidates(selection: Path) -> None:
    scores = read(selection, "metrics.json")["test"]
    assert set(scores) == {"answer_map", "answer_mrr", "answer_p_at_1"}
    assert 0 < scores["answer_p_at_1"] <= scores["answer_mrr"] <= 1
    for line in lines(selection / "predictions.jsonl"):
        values = [one["score"] for one in line["prediction"]]
        assert values == sorted(values, reverse=True) and len(values) == 3
    row = {"query": "Where was Tamor born ?", "candidates": ["Tamor owns 3 horses .", "Tamor was born in Line ."]}
    (ranking,) = vertebra.load(selection, device="cpu").predict([row])
    assert {one["text"] for one in ranking} == set(row["candidates"])


@pytest.mark.parametrize(
    "changes", [["backbone.packing=padded"], ["backbone.freeze=true"], ["backbone.attention=causal"]]
)
@pytest.mark.parametrize("task", ["qa", "answer_selection"])
def test_other_ways_to_train(task: str, changes: list[str], tmp_path: Path) -> None:
    run = train(tmp_path / "run", f"task={task}", *SHORT, *changes, "trainer.max_steps=2")
    assert read(run, "run.json")["status"] == "finished"


@pytest.mark.parametrize("task", ["qa", "answer_selection"])
def test_what_is_learnt_does_not_depend_on_the_token_budget(task: str, tmp_path: Path) -> None:
    no_dropout = (
        "backbone.init=random",
        "backbone.config={n_layer: 1, n_embd: 32, n_head: 2, attn_pdrop: 0.0, embd_pdrop: 0.0, resid_pdrop: 0.0}",
    )
    settings = [
        *SHORT,
        *no_dropout,
        "task.dropout=0",
        "gpu.precision=fp32",
        "trainer.max_steps=3",
        "data.limit=8",
        "trainer.batch_size=4",
    ]
    losses = []
    for budget in (64, 4096):
        run = train(
            tmp_path / str(budget), f"task={task}", *settings, f"gpu.token_budget={budget}", "trainer.log_every=1"
        )
        losses.append([line["loss"] for line in lines(run / "log.jsonl") if "loss" in line])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "metric", "least"), [("qa", "answer_f1", 0.55), ("answer_selection", "answer_map", 0.85)]
)
def test_nano_learns_the_sample_from_random_weights(task: str, metric: str, least: float, tmp_path: Path) -> None:
    run = train(tmp_path / "run", f"task={task}", "gpu=cpu", "trainer.trackers=[]")
    assert read(run, "metrics.json")["test"][metric] > least
