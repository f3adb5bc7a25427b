"""Whole runs of the tasks: every kind of label, from the command line to predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import vertebra
from vertebra.cli.main import main
from vertebra.engine.evaluate import count
from vertebra.metrics.classification import Accuracy

SMALL = [
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}",
    *("gpu=cpu", "gpu.threads=1", "trainer.trackers=[]", "trainer.max_steps=6", "trainer.learning_rate=1e-2"),
]


def train(folder: Path, *arguments: str) -> Path:
    assert main(["train", *SMALL, f"hydra.run.dir={folder}", *arguments]) == 0
    return folder


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_run_from_the_sample_to_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path / "run", "task=sentiment", "data.limit=80", "task.threshold=auto", "task.pooling=attention")
    scores = read(run, "metrics.json")
    assert set(scores["test"]) == {"accuracy", "macro_f1", "mcc", "calibration_error"}
    state = read(run, "model/tasks.json")["sentiment"]
    assert state["labels"] == ["negative", "positive"] and 0 < state["threshold"] < 1
    assert [one["title"] for one in read(run, "figures.json")["test"]] == ["By label", "Labels", "Reliability"]
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["reference"]["label"] for line in lines} == {"negative", "positive"}
    wrong = sum(line["prediction"]["label"] != line["reference"]["label"] for line in lines if line["split"] == "test")
    assert f"{wrong} of 80" in " ".join((run / "report.html").read_text(encoding="utf-8").split())

    loaded = vertebra.load(run)
    texts = ["the plot was good .", "the food was not good , but the room was really lovely"]
    together = loaded.predict(texts)
    for text, prediction in zip(texts, together, strict=True):
        alone = loaded.predict([text])[0]
        assert alone["label"] == prediction["label"]
        assert alone["probability"] == pytest.approx(prediction["probability"], abs=2e-6)
    capsys.readouterr()
    assert main(["predict", str(run), "--text", texts[0], "--text", texts[1]]) == 0
    printed = [json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()]
    assert printed == together
    with pytest.raises(vertebra.VertebraError, match="Row 1: column 'text' is empty"):
        loaded.predict(["  "])
    assert main(["evaluate", str(run), "--output", str(tmp_path / "again")]) == 0
    assert read(tmp_path / "again", "metrics.json") == scores


def test_a_frozen_backbone_reads_a_pooled_text_once(tmp_path: Path) -> None:
    run = train(tmp_path / "run", "task=classification", "data.limit=40", "backbone.freeze=true", "gpu.precision=fp32")
    loaded = vertebra.load(run)
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    tests = [line for line in lines if line["split"] == "test"]
    again = loaded.predict([line["input"]["text"] for line in tests])
    for one, other in zip(again, tests, strict=True):
        assert one["label"] == other["prediction"]["label"]
        assert one["probability"] == pytest.approx(other["prediction"]["probability"], abs=1e-4)


def test_several_labels_of_a_text(tmp_path: Path) -> None:
    rows = [{"text": f"good {w}", "label": [w, "good"][: 1 + n % 2]} for n in range(20) for w in ("food", "room")]
    run = train(tmp_path / "run", "task=classification", "task.kind=multi", "data=classification/files",
                f"data.path={write(tmp_path / 'rows.jsonl', rows)}", "task.threshold=auto")  # fmt: skip
    assert set(read(run, "metrics.json")["test"]) == {"multilabel_micro_f1", "multilabel_macro_f1", "subset_accuracy"}
    (prediction,) = vertebra.load(run).predict(["good food"])
    assert set(prediction) == {"labels", "probabilities"}
    assert set(prediction["probabilities"]) == {"food", "good", "room"}


def test_a_scale_of_pairs(tmp_path: Path) -> None:
    rows = [{"text": "x", "text_b": "very " * n, "label": n} for _ in range(10) for n in (1, 2, 3)]
    run = train(tmp_path / "run", "task=classification", "task.kind=ordinal", "task.pair=true", "task.pooling=last",
                "data=classification/files", f"data.path={write(tmp_path / 'rows.jsonl', rows)}",
                "data.too_long=window", "backbone.context=4")  # fmt: skip
    assert set(read(run, "metrics.json")["test"]) == {"quadratic_kappa", "mean_absolute_error", "accuracy", "macro_f1"}
    (prediction,) = vertebra.load(run).predict([{"text": "x", "text_b": "very very"}])
    assert prediction["label"] in ("1", "2", "3")
    with pytest.raises(vertebra.VertebraError, match="lacks 'text_b'"):
        vertebra.load(run).predict([{"text": "x"}])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["task.kind=double"], "task.kind"),
        (["task.threshold=1.5"], "task.threshold"),
        (["task.class_weights={positive: 0}"], "task.class_weights"),
        (["data=classification/sample"], "not for task=sentiment"),
        (["task.class_weights={psitive: 2}"], "Did you mean 'positive'"),
    ],
)
def test_wrong_settings_are_said(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "task=sentiment", *SMALL, f"hydra.run.dir={tmp_path / 'run'}", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("task", ["sentiment", "classification"])
def test_nano_learns_the_sample_far_beyond_counting_words(task: str, tmp_path: Path) -> None:
    assert main(["train", f"task={task}", "trainer.trackers=[]", f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    loaded = vertebra.load(tmp_path / "run")
    from vertebra.data.load import load_splits
    from vertebra.host.manager import create_host

    splits = load_splits(loaded.config.tasks[0].data, loaded.task, create_host())
    linear = loaded.task.baselines()[1]
    linear.fit(splits.rows["train"], splits.rows["valid"])
    references = [loaded.task.reference(row) for row in splits.rows["test"]]
    metric = Accuracy()
    baseline = metric.score(count(metric, linear.predict(splits.rows["test"]), references))
    assert read(tmp_path / "run", "metrics.json")["test"]["accuracy"] > baseline + 0.1
