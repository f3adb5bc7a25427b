"""Whole runs on a frozen backbone: shared by a sweep, evaluated, used for prediction, probed from Python."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file

import vertebra
from vertebra import HeadSettings, TrainerConfig
from vertebra.cli.main import main
from vertebra.engine.backbone import Backbone
from vertebra.engine.loading import load_backbone
from vertebra.host.records import PluginRecord

BACKBONE = {"init": "random", "config": {"n_layer": 1, "n_embd": 32, "n_head": 2}, "freeze": True}
SETTINGS = [
    "task=ner",
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}",
    "backbone.freeze=true",
    "gpu=cpu",
    "gpu.threads=1",
    "gpu.precision=fp32",
    "data.limit=60",
    "trainer.max_steps=6",
    "trainer.evaluate_every=6",
    "trainer.learning_rate=1e-2",
    "trainer.trackers=[]",
    "trainer.log_every=1",
]


def command(*arguments: str) -> None:
    """Run the command line in this process; it must succeed."""
    assert main(list(arguments)) == 0


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


@contextmanager
def counted_passes() -> Iterator[list[int]]:
    """Count the passes of backbones."""
    passes: list[int] = []
    forward = Backbone.forward

    def counting(self: Backbone, batch: Any) -> torch.Tensor:
        passes.append(len(batch))
        return forward(self, batch)

    with mock.patch.object(Backbone, "forward", counting):
        yield passes


def test_a_sweep_over_the_heads_settings_reads_the_data_once(tmp_path: Path) -> None:
    sweep = ["--multirun", "trainer.learning_rate=1e-3,3e-3,1e-2", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    with counted_passes() as passes:
        command("train", *SETTINGS, *sweep)
    assert sum(passes) == 3 * 60, "every sequence of the three splits, once"
    states = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "sweep").rglob("run.json")]
    assert [state["status"] for state in states] == ["finished"] * 3
    assert len({state["key"] for state in states}) == 3
    with counted_passes() as passes:
        command("train", *SETTINGS, "trainer.weight_decay=0.5", f"hydra.run.dir={tmp_path / 'later'}")
    assert not passes, "nor does a later run"


def test_what_a_frozen_run_leaves_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    command("train", *SETTINGS, f"hydra.run.dir={run}")
    assert "the backbone is frozen" in capsys.readouterr().err
    assert "the backbone is frozen: only the head is trained" in read(run, "run.json")["notes"]
    command("evaluate", str(run), "--output", str(again))
    assert read(again, "metrics.json") == read(run, "metrics.json")
    assert (again / "predictions.jsonl").read_text() == (run / "predictions.jsonl").read_text()
    assert vertebra.load(run).predict(["Mr Orvann visited Talbek."])[0]["tags"]
    command("export", str(run), str(tmp_path / "exported"))
    weights = load_file(tmp_path / "exported" / "model.safetensors")

    config = vertebra.configure(task="ner", backbone=BACKBONE)
    first = load_backbone(config.backbone, vertebra.create_host(), seed=1)
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(weights[name], tensor), "as they were before the run"


@pytest.mark.parametrize(("training", "evaluation"), [("bf16", "fp32"), ("fp32", "bf16")])
def test_a_run_is_scored_in_the_precision_of_evaluation_as_it_predicts(
    training: str, evaluation: str, tmp_path: Path
) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    precision = [f"gpu.precision={training}", f"gpu.evaluation_precision={evaluation}"]
    command("train", "task=sentiment", *SETTINGS[1:], *precision, f"hydra.run.dir={run}")
    command("evaluate", str(run), "--output", str(again))
    first, second = (
        [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
        for folder in (run, again)
    )
    assert [one["id"] for one in first] == [one["id"] for one in second]
    for one, other in zip(first, second, strict=True):
        assert one["prediction"]["probability"] == pytest.approx(other["prediction"]["probability"], abs=1e-6)


def test_without_the_cache_the_run_is_the_same(tmp_path: Path) -> None:
    for cache in ("true", "false"):
        command("train", *SETTINGS, f"data.cache={cache}", f"hydra.run.dir={tmp_path / cache}")
    for name in ("log.jsonl", "metrics.json", "predictions.jsonl"):
        assert (tmp_path / "true" / name).read_bytes() == (tmp_path / "false" / name).read_bytes()


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    two = ["gpu=ddp", "gpu.device=cpu", "gpu.processes=2"]
    for name, more in (("one", []), ("two", two)):
        command("train", *SETTINGS, "task.dropout=0", *more, f"hydra.run.dir={tmp_path / name}")
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(logs[0]) == 6
    for alone, together in zip(*logs, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    for split, scores in read(tmp_path / "one", "metrics.json").items():
        assert read(tmp_path / "two", "metrics.json")[split] == pytest.approx(scores, abs=1e-9)


def test_probing_gives_the_scores_of_the_runs(tmp_path: Path) -> None:
    config = vertebra.configure(
        task="ner",
        gpu={"option": "cpu", "threads": 1, "precision": "fp32"},
        data={"limit": 60},
        backbone=BACKBONE,
    )
    trainer = TrainerConfig(max_steps=6, evaluate_every=6, trackers=())
    settings = [HeadSettings(replace(trainer, learning_rate=rate), seed=1) for rate in (1e-2, 3e-2)]
    found = vertebra.probe(config, settings)
    for one, rate in zip(found, (1e-2, 3e-2), strict=True):
        folder = tmp_path / str(rate)
        command("train", *SETTINGS, f"trainer.learning_rate={rate}", f"hydra.run.dir={folder}")
        log = [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
        assert one.trained.losses == pytest.approx(log, rel=1e-5)
        assert set(one.scores) == {"valid", "test"}
        for split, scores in read(folder, "metrics.json").items():
            assert one.scores[split] == pytest.approx(scores, abs=1e-9)


def test_an_adapter_on_a_frozen_backbone_is_refused() -> None:
    class Brings:
        @vertebra.hookimpl
        def register_adapters(self) -> list[vertebra.AdapterRef]:
            return [vertebra.AdapterRef("low-rank", "nowhere:nothing")]

    host = vertebra.create_host()
    host.add(PluginRecord("brings", "brings", "1"), Brings)
    with pytest.raises(vertebra.VertebraError, match=r"adapter=low-rank .* backbone\.freeze=true"):
        vertebra.configure(host, task="ner", backbone=BACKBONE, adapter={"name": "low-rank"})
