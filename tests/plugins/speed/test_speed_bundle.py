"""Six tasks over one backbone, and a pipeline for each: the same texts, the same weights, the same labels."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from vertebra_speed import bundle, bundle_work, comparison, workload
from vertebra_speed.options import Data, Options, Shape
from vertebra_speed.own.bundle import VertebraTasks
from vertebra_speed.peers.bundle import Pipelines
from vertebra_speed.table import print_report
from vertebra_speed.worker import Worker


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("work"))
    opinions = ("a dull film", "a warm and wise story", "far too long , and yet it ends", "fine")
    texts = Path(folder) / "texts"
    texts.mkdir()
    for split in ("train", "valid"):
        lines = [f"{one}\t{number % 2}" for number, one in enumerate(opinions * 3)]
        (texts / f"{split}.tsv").write_text("\n".join(lines))
    workload.prepare(folder, layers=2, width=32, family="gpt2", data=asdict(Data("text", str(texts))), seed=0)
    bundle_work.prepare(folder, tasks=6, rows=16, seed=0)
    return folder


def test_both_sides_give_the_same_labels(folder: str) -> None:
    own = VertebraTasks(folder, threads=1, requests=5, tasks=6)
    expected = own.answers()["answers"]
    assert len(expected) == 16 and all(expected)
    assert len({str(one) for one in expected}) > 4, "adapters and heads differ"
    for best in (False, True):
        peer = Pipelines(folder, threads=1, requests=5, best=best)
        assert peer.answers()["answers"] == expected
        assert peer.answer(seed=0)["tokens"] == own.answer(seed=0)["tokens"] > 16
        assert peer.batch in (1, 8, 32)
    assert len({id(one.model) for one in peer.pipelines.values()}) == 6
    assert own.memory().keys() == peer.memory().keys()


def test_one_task_answers_all_texts(folder: str) -> None:
    side = VertebraTasks(folder, threads=1, requests=5, tasks=1)
    assert {name for name, _ in side.stream} == set(side.tasks.runs)
    assert len(side.answers()["answers"]) == 16


class Here:
    """A worker that works in this process, which spares its start."""

    def __init__(self, target: str, arguments: dict[str, Any], threads: int) -> None:
        module, _, attribute = target.partition(":")
        self.object = getattr(importlib.import_module(module), attribute)(**arguments)
        self.made = self.object if isinstance(self.object, dict) else {}

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        found: dict[str, Any] = getattr(self.object, method)(**arguments)
        return found

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_the_report_says_speed_memory_and_differences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comparison, "Worker", Here)
    monkeypatch.setattr(comparison, "run_once", lambda *given: Here(*given).made)
    monkeypatch.setattr(comparison.Bench, "ceiling", lambda _: {"fp32": 1e11})
    options = Options(shape=Shape(1, 32), data=Data("synthetic", mean_length=6), rows=12, requests=6, repeats=1)
    report = bundle.run(options)
    assert [one["name"] for one in report["sides"]] == ["pipelines, default", "pipelines, best", "Vertebra, fp32"]
    assert [one["ours"] for one in report["ratios"]] == ["Vertebra, fp32"] * 2
    assert all("MiB above the imports" in found for found in report["differences"].values())
    assert "Vertebra, one task" in report["differences"]
    print_report(report)
    said = capsys.readouterr().out
    assert "of what it holds with one task" in said and "pipelines, best: batches of " in said


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_six_tasks_take_the_memory_of_one_and_a_quarter_of_six_pipelines(tmp_path: Path) -> None:
    workload.prepare(str(tmp_path), layers=12, width=768, family="gpt2", data=asdict(Data("synthetic")), seed=0)
    bundle_work.prepare(str(tmp_path), tasks=6, rows=12, seed=0)
    common = {"folder": str(tmp_path), "threads": 1, "requests": 12}

    def held(target: str, **more: object) -> int:
        with Worker(target, {**common, **more}, threads=1) as worker:
            worker.call("answers")
            return int(worker.call("memory")["above"])

    six, one = (held("vertebra_speed.own.bundle:VertebraTasks", tasks=tasks) for tasks in (6, 1))
    pipelines = held("vertebra_speed.peers.bundle:Pipelines", best=False)
    print(f"MiB above the imports: six {six >> 20}, one {one >> 20}, pipelines {pipelines >> 20}")
    assert one > 4 * 110e6, "the weights of the shape are there"
    assert six <= 1.15 * one
    assert six <= pipelines / 4
