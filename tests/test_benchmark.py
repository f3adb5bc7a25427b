"""`vertebra benchmark`: whole suites on tiny models, from the command line; what it reuses and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vertebra.benchmark.matrix import jobs_of
from vertebra.benchmark.suite import Choice, Suite, SuiteTask, chosen, data_folder, load_suite, overrides
from vertebra.cli.main import main
from vertebra.config.options import find_options
from vertebra.errors import ConfigError
from vertebra.host.manager import create_host

SMALL = ["data.limit=30", "trainer.max_steps=2", "trainer.evaluate_every=1", "gpu=cpu", "gpu.threads=1"]
PART = ["suite=sample", "tasks=ner,sentiment", "systems=narrow,wide", "seeds=1,2"]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished benchmark of two systems on two tasks with two seeds."""
    folder = tmp_path_factory.mktemp("benchmark") / "board"
    assert main(["benchmark", *PART, *SMALL, "--output", str(folder)]) == 0
    return folder


def read(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
    return document


def files(folder: Path) -> dict[Path, tuple[int, int]]:
    found = {path: path.stat() for path in folder.rglob("*") if path.is_file() and path.name != ".sweep.lock"}
    return {path: (one.st_ino, one.st_mtime_ns) for path, one in found.items()}


def test_every_system_is_scored_on_every_task_with_every_seed(board: Path) -> None:
    found = read(board)
    assert [task["name"] for task in found["tasks"]] == ["ner", "sentiment"]
    for task in found["tasks"]:
        assert {one["system"] for one in task["results"]} == {"narrow", "wide"}
        for one in task["results"]:
            assert sorted(one["scores"]) == ["1", "2"]
            cost = one["cost"]
            assert cost["wall_seconds"] > 0 and cost["cpu_seconds"] > 0 and cost["tokens_per_second"] > 0
            assert cost["peak_memory_bytes"] > 2**26
            assert len(one["curve"]) == 2
        narrow, wide = (next(one for one in task["results"] if one["system"] == name) for name in ("narrow", "wide"))
        assert narrow["cost"]["trainable_parameters"] < wide["cost"]["trainable_parameters"]
        assert task["baselines"] and len(task["pairs"]) == 1
    assert found["notes"] == [] and found["ranks"] is None
    assert {file.suffix for file in board.glob("leaderboard.*")} == {".html", ".md", ".csv", ".json"}


def test_a_second_call_runs_nothing_and_a_larger_one_only_what_is_new(
    board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(board / "runs")
    assert main(["benchmark", *PART, *SMALL, "--output", str(board)]) == 0
    assert files(board / "runs") == before
    more = ["benchmark", *PART[:-2], "systems=narrow", "seeds=1,2,3", *SMALL, "--output", str(board)]
    capsys.readouterr()
    assert main(more) == 0
    assert "2 tasks × 1 systems × 3 seeds = 6 runs" in capsys.readouterr().out
    after = files(board / "runs")
    assert {path: one for path, one in after.items() if path in before} == before
    assert len(list((board / "runs").glob("*/run.json"))) == 10
    assert sorted(read(board)["tasks"][0]["results"][0]["scores"]) == ["1", "2", "3"]


def test_a_run_that_fails_is_named_and_the_others_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vertebra.runs import execute

    whole = execute._train

    def fails(config: Any, *others: Any) -> Any:
        if config.seed == 2:
            raise ConfigError("seed 2 is not liked")
        return whole(config, *others)

    monkeypatch.setattr(execute, "_train", fails)
    part = ["suite=sample", "tasks=sentiment", "systems=narrow", "seeds=1,2"]
    assert main(["benchmark", *part, *SMALL, "--output", str(tmp_path)]) == 1
    (note,) = read(tmp_path)["notes"]
    assert note == "narrow on sentiment with seed 2 is missing: seed 2 is not liked"
    assert read(tmp_path)["tasks"][0]["results"][0]["scores"].keys() == {"1"}
    monkeypatch.setattr(execute, "_train", whole)
    assert main(["benchmark", *part, *SMALL, "--output", str(tmp_path)]) == 0
    assert read(tmp_path)["tasks"][0]["results"][0]["scores"].keys() == {"1", "2"}


def test_predictions_of_a_task_without_a_run_are_left_out(
    board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vertebra.runs import sweep

    whole = sweep.run_jobs

    def fails(jobs: Any, *others: Any) -> Any:
        results = whole(jobs, board / "runs", *others[1:])
        return [
            replace(one, status="failed", reason="ner is not liked") if one.job.axes["task"] == "ner" else one
            for one in results
        ]

    monkeypatch.setattr(sweep, "run_jobs", fails)
    file = tmp_path / "predictions.jsonl"
    file.write_text("", encoding="utf-8")
    part = [
        "suite=sample",
        "tasks=ner,sentiment",
        "systems=narrow",
        "seeds=1",
        "--predictions",
        "spacy",
        "ner",
        str(file),
    ]
    assert main(["benchmark", *part, *SMALL, "--output", str(tmp_path / "out")]) == 1
    found = read(tmp_path / "out")
    assert [task["name"] for task in found["tasks"]] == ["sentiment"]
    assert found["notes"] == [
        "narrow on ner with seed 1 is missing: ner is not liked",
        "spacy on ner is missing: no run of this task has finished, which is needed to score predictions",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Choose a suite, as in: vertebra benchmark suite=sample"),
        (["suite=cor"], "suite=cor: There is no option 'cor'. Did you mean 'core'? Known: core, sample."),
        (["suite=sample", "tasks=nr"], "tasks=nr: There is no task of this suite 'nr'. Did you mean 'ner'?"),
        (["suite=sample", "systems=huge"], "systems=huge: There is no system of this suite 'huge'."),
        (["suite=sample", "seeds=one"], "seeds=one: write whole numbers with commas"),
        (["suite=sample", "narrow"], "'narrow' is no setting: write KEY=VALUE."),
        (["suite=sample", "--system", "lora"], "--system 'lora': write 'NAME: KEY=VALUE …'"),
        (
            ["suite=sample", "--system", "lora: backbone='gpt2"],
            "--system 'lora: backbone='gpt2': No closing quotation.",
        ),
        (["suite=sample", "trainer.epochs=0"], "in 54 of 54 runs, as task ner, system narrow, seed 1"),
        (["suite=core", "tasks=ner"], "The suite reads ner/conll2003: say with --data FOLDER, or VERTEBRA_DATA=FOLDER"),
        (["suite=core", "--data", "."], "'.' does not hold ner/conll2003, sentiment/sst2"),
        (
            ["suite=sample", "--predictions", "x", "nre", "f"],
            "There is no task of this leaderboard 'nre'. Did you mean 'ner'?",
        ),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_made(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("VERTEBRA_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_lists_the_runs_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    further = ["--system", "one layer: backbone.init=random backbone.config='{n_layer: 1}'"]
    assert main(["benchmark", *PART, *SMALL, *further, "systems=one layer", "--dry-run"]) == 0
    assert "  task=ner system=one layer seed=2\n" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(find_options(create_host())["suite"]))
def test_every_suite_composes(name: str, tmp_path: Path) -> None:
    host = create_host()
    suite = load_suite(name, host)
    for one in suite.tasks.values():
        (tmp_path / (one.path or "")).mkdir(parents=True, exist_ok=True)
    assert len(jobs_of(suite, data_folder(suite, tmp_path), host)) == 6 * len(suite.systems) * 3


@pytest.mark.slow
def test_the_whole_sample_suite(tmp_path: Path) -> None:
    assert main(["benchmark", "suite=sample", *SMALL, "--output", str(tmp_path)]) == 0
    found = read(tmp_path)
    assert len(found["tasks"]) == 6 and found["ranks"]["tasks"] == 6 and len(found["systems"]) == 3


def test_what_is_said_last_counts() -> None:
    suite = Suite(
        title="one",
        tasks={"a": SuiteTask("ner/sample", settings=("trainer.max_steps=2",))},
        systems={"b": ("backbone=nano",)},
        settings=("trainer.max_steps=1",),
    )
    assert overrides(suite, "a", "b", 1, None)[2:] == [
        "trainer.max_steps=1",
        "trainer.max_steps=2",
        "backbone=nano",
        "seed=1",
    ]
    asked = chosen(suite, Choice(settings=("trainer.max_steps=3",)))
    assert overrides(asked, "a", "b", 1, None)[3:5] == ["trainer.max_steps=2", "trainer.max_steps=3"]
