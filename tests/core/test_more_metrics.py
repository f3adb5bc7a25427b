"""Metrics that a run asks for besides its task's: those that cannot score its predictions are refused before it trains."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from vertebra.cli.main import main
from vertebra.config.options import configure
from vertebra.config.schema import TaskChoice
from vertebra.errors import ConfigError
from vertebra.host.manager import create_host
from vertebra.host.refs import MetricRef
from vertebra.metrics.classification import Accuracy
from vertebra.runs.tasks import load_metrics, load_task

HOST = create_host()


def test_a_metric_for_tasks_of_another_family_is_refused_when_the_run_is_composed() -> None:
    with pytest.raises(ConfigError) as refused:
        configure(HOST, task="sentiment", trainer={"more_metrics": ["entity_f1", "accuracy", "bleu"]})
    assert str(refused.value).splitlines() == [
        "trainer.more_metrics: entity_f1 does not go with task=sentiment, a task of the family 'sequence-classification'. "
        "It scores: token-classification.",
        "trainer.more_metrics: bleu does not go with task=sentiment, a task of the family 'sequence-classification'. "
        "It scores: generation.",
    ]
    run = configure(HOST, task="summarization", trainer={"more_metrics": ["chrf"]})
    assert run.trainer.more_metrics == ("chrf",)


@pytest.mark.parametrize("name", HOST.names("task"))
def test_what_metrics_declare_goes_with_the_tasks_that_name_them(name: str) -> None:
    task = load_task(TaskChoice(name), HOST)
    for metric in task.metrics:
        ref = HOST.get("metric", metric)
        assert isinstance(ref, MetricRef)
        assert ref.tasks is None or task.family in (*ref.tasks, "custom")


@pytest.mark.parametrize(
    ("task", "metric", "reason"),
    [
        ("sentiment", "multilabel_micro_f1", "it cannot score the prediction .* \\(KeyError: 'labels'\\)"),
        pytest.param(
            "translation",
            "novel_bigrams",
            "it cannot score the prediction .* \\(KeyError: 'document'\\)",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_metric_for_another_task_of_the_family_is_tried_on_one_row(
    task: str, metric: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"task={task}", f"trainer.more_metrics=[{metric}]", "data.options={train: 8, valid: 4, test: 4}"]
    tiny = ["backbone.init=random", "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}", "gpu=cpu", "gpu.threads=1"]
    assert main(["train", *settings, *tiny, "trainer.trackers=[]", f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vertebra: ")]
    assert re.search(f"more_metrics: {metric} does not go with task={task}: {reason}", line)
    state = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert state["status"] == "failed" and not (tmp_path / "run" / "log.jsonl").exists()


def test_a_metric_that_does_not_find_in_the_task_what_it_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accuracy, "for_task", lambda task: task.scale)
    task = load_task(TaskChoice("ner"), HOST)
    with pytest.raises(
        ConfigError, match=r"more_metrics: accuracy does not go with task=ner \(AttributeError: .*scale"
    ):
        load_metrics(task, HOST, ["accuracy"])
