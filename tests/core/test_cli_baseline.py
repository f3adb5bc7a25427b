"""`vertebra baseline`: a table and a file of numbers, or one line of what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from tests.core.data_tasks import Topic

from vertebra.cli.baseline import score
from vertebra.cli.main import main
from vertebra.config.schema import DataConfig, RunConfig, TaskChoice
from vertebra.engine import loading
from vertebra.errors import PluginError
from vertebra.host.hookspecs import hookimpl
from vertebra.host.manager import create_host
from vertebra.host.records import PluginRecord
from vertebra.host.refs import MetricRef, TaskRef
from vertebra.metrics.metric import Mean
from vertebra.report.screen import print_baselines
from vertebra.tasks.baseline import Baseline

SMALL = ["task=ner", "data.limit=80"]


@pytest.fixture(autouse=True)
def no_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A baseline needs neither weights nor a tokenizer."""

    def refused(*arguments: Any, **named: Any) -> None:
        raise AssertionError("a backbone was loaded")

    monkeypatch.setattr(loading, "load_backbone", refused)
    monkeypatch.setattr(loading, "load_tokenizer", refused)


def test_it_prints_a_table_and_keeps_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "numbers.json"
    assert main(["baseline", *SMALL, "--json", str(file)]) == 0
    out = capsys.readouterr().out
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert kept["task"] == "ner" and "synthetic data: sentences made from a seed" in kept["notes"]
    assert list(kept["baselines"]) == ["most frequent tag", "known entities", "CRF"]
    for name, one in kept["baselines"].items():
        assert f"{name}: {one['summary']}" in " ".join(out.split())
        assert set(one["scores"]) == set(one["intervals"]) == {"valid", "test"}
        for split, scores in one["scores"].items():
            for metric, value in scores.items():
                low, high = one["intervals"][split][metric]
                assert 0 <= low <= value <= high <= 1
                assert f"{100 * value:.2f}" in out
    assert out.index("test") < out.index("valid") < out.index("seconds")


def test_one_split_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", *SMALL, "--split", "test"]) == 0
    assert "valid" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "task"),
        (["task=nre"], "Did you mean 'ner'?"),
        ([*SMALL, "data.path=nowhere", "data.format=columns"], "nowhere"),
        ([*SMALL, "--json", "no/such/folder/x.json"], "does not exist"),
        ([*SMALL, "--split", "train"], "invalid choice: 'train'"),
        ([*SMALL, "data.test_fraction=0", "--splt=test"], "there is no option '--splt'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert "Traceback" not in captured.err


# --- tasks without baselines, and with broken ones


class Accuracy(Mean):
    """The share of right labels."""

    name = "topic_accuracy"

    def value(self, prediction: Any, reference: Any) -> float:
        return float(prediction == reference)


class Majority(Baseline):
    """Predicts the first label."""

    name = "first"
    summary = "the first label of training"

    def fit(self, train: Any, valid: Any) -> None:
        self.label = train[0]["label"]

    def predict(self, rows: Any) -> list[Any]:
        return [self.label for _ in rows]


class Nowhere(Majority):
    """Needs what is not there."""

    name = "nowhere"

    def fit(self, train: Any, valid: Any) -> None:
        raise ImportError("No module named 'nowhere'")


@hookimpl
def register_tasks() -> list[TaskRef]:
    return [TaskRef("topic", "tests.core.data_tasks:Topic")]


@hookimpl
def register_metrics() -> list[MetricRef]:
    return [MetricRef("topic_accuracy", f"{__name__}:Accuracy")]


def topics(folder: Path, *baselines: type[Baseline], monkeypatch: pytest.MonkeyPatch) -> int:
    lines = [json.dumps({"text": str(number), "label": "ab"[number % 2]}) + "\n" for number in range(20)]
    (folder / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    host = create_host()
    brought = SimpleNamespace(register_tasks=register_tasks, register_metrics=register_metrics)
    host.add(PluginRecord("fake", "tests", "1"), lambda: brought)
    monkeypatch.setattr(Topic, "baselines", lambda self: [one(self) for one in baselines])
    config = RunConfig((TaskChoice("topic", data=DataConfig(path=str(folder))),))
    return score(config, host, ["test", "valid"], None)


def test_a_task_without_baselines_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert topics(tmp_path, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == "Task 'topic' names no baselines.\n"


def test_one_that_fails_is_named_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert topics(tmp_path, Nowhere, Majority, monkeypatch=monkeypatch) == 1
    out = capsys.readouterr().out
    assert "Note: baseline 'nowhere' failed: ImportError: No module named 'nowhere'" in out
    assert "first: the first label of training" in out
    with pytest.raises(PluginError, match=r"^baseline 'nowhere' failed: ImportError: No module named 'nowhere'$"):
        topics(tmp_path, Nowhere, monkeypatch=monkeypatch)


@pytest.mark.parametrize("number", [1, 3, 4, 5])
def test_the_table_fits_eighty_columns(number: int) -> None:
    scores = {"valid": {"a_long_metric_name": 0.5, "b": 1.0}, "test": {"a_long_metric_name": 0.25, "b": 0.75}}
    ranges = {split: {name: [value, value] for name, value in some.items()} for split, some in scores.items()}
    one = {"summary": "a summary", "seconds": 1.0, "scores": scores, "intervals": ranges}
    console = Console(width=80, record=True, highlight=False)
    print_baselines({f"some baseline {n}": one for n in range(number)}, ["test", "valid"], [], console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.split().count("25.00") for line in lines) == number
