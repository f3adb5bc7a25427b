"""docs/results.py: experiments by name, runs that go on where they were left, tables of what came out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from docs_module import module
from vertebra.runs.folder import RunFolder

TINY = (
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}",
    "gpu=cpu",
    "gpu.threads=1",
    "data.limit=40",
)


page, experiments = module("results_page"), module("experiments")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, with one short experiment, and its files in a folder of the test."""
    loaded = module("results")
    tiny = experiments.Experiment("A tiny sample", "ner/sample", None, (*TINY, "trainer.max_steps=3"), "small")
    absent = experiments.Experiment("Not here", "ner/conll2003", "no/such/data")
    monkeypatch.setattr(loaded, "EXPERIMENTS", {"tiny": tiny, "absent": absent})
    monkeypatch.setattr(loaded, "FOLDER", tmp_path / "json")
    return loaded


def test_runs_are_made_once_and_go_on_where_they_were_left(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    arguments = ["--seeds", "1,2", "--runs", str(runs), "--data", str(tmp_path)]
    assert program.main(arguments) == 0
    assert "absent: skipped, for there is no" in capsys.readouterr().err
    found = json.loads((tmp_path / "json" / "tiny.json").read_text(encoding="utf-8"))
    assert found["budget"] == "small" and found["metric"] == "entity_f1" and found["higher_is_better"]
    assert [run["seed"] for run in found["runs"]] == [1, 2]
    for run in found["runs"]:
        folder = RunFolder(runs / "tiny" / f"seed-{run['seed']}")
        assert run["scores"] == program.rounded(folder.read_json("metrics.json"))
        assert run["environment"]["cpu"] and run["backbone"]["init"] == "random"
    assert list(found["baselines"]) == ["most frequent tag", "known entities", "CRF"]
    assert str(tmp_path) not in json.dumps(found)  # nothing of the machine's folders

    second = runs / "tiny" / "seed-2"
    RunFolder(second).update_state(status="stopped")  # as if it had been interrupted
    asked: list[list[str]] = []
    monkeypatch.setattr(program, "vertebra", lambda arguments: asked.append(arguments) or 3)
    assert program.main(["tiny", *arguments]) == 3
    assert asked == [["resume", str(second)]]  # the first one is finished
    changed = experiments.Experiment("A tiny sample", "ner/sample", None, TINY, "small")
    monkeypatch.setattr(program, "EXPERIMENTS", {"tiny": changed})
    assert program.main(["tiny", *arguments]) == 2
    assert "was made by: train task=ner" in capsys.readouterr().err


def test_an_experiment_may_start_from_what_another_one_learnt(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_step = ("gpu=cpu", "gpu.threads=1", "data.limit=40", "trainer.max_steps=1")
    later = experiments.Experiment("After it", "sentiment/sample", None, one_step, "small", after="tiny")
    monkeypatch.setattr(program, "EXPERIMENTS", {**program.EXPERIMENTS, "later": later})
    arguments = ["later", "--seeds", "2", "--runs", str(tmp_path / "runs"), "--data", str(tmp_path)]
    assert program.main(arguments) == 0
    assert [path.name for path in (tmp_path / "runs" / "tiny").iterdir()] == ["seed-1"]
    found = json.loads((tmp_path / "json" / "later.json").read_text(encoding="utf-8"))
    assert "backbone.path=RUNS/tiny/seed-1/model/backbone" in found["line"]
    assert [(run["seed"], run["backbone"]["init"]) for run in found["runs"]] == [(2, "pretrained")]
    assert found["runs"][0]["backbone"]["parameters"] < 1e6, "the tiny one, and not nano"
    assert str(tmp_path) not in json.dumps(found)


def test_an_experiment_may_be_another_ones_runs_evaluated_with_other_settings(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = ("trainer.max_steps=2", "task.max_new_tokens=8", "task.texts_while_training=2")
    written = experiments.Experiment("Notes", "summarization/sample", None, (*TINY, *longer), "small")
    short = experiments.Experiment(
        "Short", "summarization/sample", None, ("task.max_new_tokens=1",), "small", again="notes"
    )
    monkeypatch.setattr(program, "EXPERIMENTS", {"notes": written, "short": short})
    arguments = ["--seeds", "1,2", "--runs", str(tmp_path / "runs"), "--data", str(tmp_path)]
    assert program.main(["short", *arguments]) == 0
    found = json.loads((tmp_path / "json" / "short.json").read_text(encoding="utf-8"))
    assert found["line"] == page.command(found) == "vertebra evaluate RUNS/notes/seed-N --set task.max_new_tokens=1"
    for run in found["runs"]:
        trained, evaluated = (
            RunFolder(tmp_path / "runs" / name / f"seed-{run['seed']}") for name in ("notes", "short")
        )
        assert run["key"] == trained.read_state()["key"]
        assert run["scores"] == program.rounded(evaluated.read_json("metrics.json"))
        assert run["scores"] != program.rounded(trained.read_json("metrics.json"))
        assert run["environment"].items() <= evaluated.read_json("environment.json").items()
    monkeypatch.setattr(program, "vertebra", lambda arguments: pytest.fail(f"{arguments} is there already"))
    assert program.main(["short", *arguments]) == 0
    other = replace(short, settings=("task.max_new_tokens=2",))
    monkeypatch.setattr(program, "EXPERIMENTS", {"notes": written, "short": other})
    assert program.main(["short", *arguments]) == 2
    assert "was made by: evaluate" in capsys.readouterr().err


def test_an_unknown_experiment_is_refused(program: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["tinny"])
    assert "there is no experiment tinny; there are tiny, absent" in capsys.readouterr().err


def test_every_experiment_names_its_task_and_its_budget() -> None:
    for name, one in experiments.EXPERIMENTS.items():
        line = one.arguments("FOLDER", "RUNS")
        assert line[:2] == (
            ["evaluate", f"RUNS/{one.again}/seed-N"] if one.again else ["train", f"task={one.option.split('/')[0]}"]
        )
        assert name.endswith("-small") or one.budget in ("full", "study") or one.path is None
        assert bool(one.study) == (one.budget == "study")
        assert one.seeds == (1, 2, 3)


# --- tables


def a_run(seed: int, test: float, **more: Any) -> dict[str, Any]:
    scores = {"valid": {"f1": 0.7, "exact": 0.6}, "test": {"f1": test, "exact": 0.5}}
    return {
        "seed": seed,
        "date": "2026-01-02",
        "seconds": 754.0,
        "backbone": {"name": "nano", "parameters": 9_200_000, "init": "random", "attention": "causal"},
        "notes": ["random weights"],
        "scores": scores,
        "intervals": {split: {name: [0.4, 0.6] for name in some} for split, some in scores.items()},
        "environment": {"cpu": "a processor", "cores": 2, "gpu": "none", "vertebra": "0.1.0", "git_commit": "f" * 40},
        **more,
    }


def an_experiment(title: str, budget: str, *tests: float, baselines: bool = True) -> dict[str, Any]:
    runs = [a_run(seed, test) for seed, test in enumerate(tests, start=1)]
    beside = {
        name: {"summary": name, **a_run(0, test), "seconds": 1.5} for name, test in (("lead", 0.3), ("copy", 0.45))
    }
    return {
        "title": title,
        "budget": budget,
        "line": "vertebra train task=qa",
        "metric": "f1",
        "higher_is_better": True,
        "baselines": beside if baselines else {},
        "runs": runs,
    }


def written(folder: Path, *experiments: dict[str, Any]) -> Path:
    for number, one in enumerate(experiments):
        (folder / f"{number}.json").write_text(json.dumps(one), encoding="utf-8")
    return folder


def test_a_table_has_baselines_seeds_and_their_mean(tmp_path: Path) -> None:
    folder = written(tmp_path, an_experiment("Answers", "full", 0.50, 0.52, 0.54))
    lines = page.results(folder, "full").splitlines()
    assert "| Answers | f1 (test) | 45.00 (copy) | **52.00 ± 2.00** | 3 |" in lines
    assert "| lead | 70.00 | 30.00 | 40.0–60.0 | 50.00 | 1.5 s |" in lines
    assert "| seed 2 | 70.00 | 52.00 | 40.0–60.0 | 50.00 | 12 min 34 s |" in lines
    assert "| **mean** | 70.00 ± 0.00 | **52.00 ± 2.00** |  | 50.00 ± 0.00 |  |" in lines
    assert "vertebra train task=qa seed=1,2,3 --multirun" in lines
    assert "Made 2026-01-02 on a processor with 2 cores (vertebra 0.1.0), commit ffffffffffff" in lines[-1]
    assert len({line.count("|") for line in lines if line.startswith("|") and "Answers" not in line}) <= 2


def test_budgets_never_stand_together(tmp_path: Path) -> None:
    folder = written(tmp_path, an_experiment("Long", "full", 0.5), an_experiment("Short", "small", 0.4))
    full, small = page.results(folder, "full"), page.results(folder, "small")
    assert "Long" in full and "Short" not in full
    assert "Short" in small and "Long" not in small
    assert "±" not in full and "mean" not in full  # of one seed there is none


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    assert page.results(tmp_path, "full") == "No experiment of this budget has been run yet."
    folder = written(tmp_path, an_experiment("Alone", "full", 0.5, baselines=False))
    assert "| Alone | f1 (test) | – | **50.00** | 1 |" in page.results(folder, "full")
    one = an_experiment("Valid", "full", 0.5)
    for scored in (*one["runs"], *one["baselines"].values()):
        del scored["scores"]["test"]
    assert "| Valid | f1 (valid) | 70.00 (lead) | **70.00** | 1 |" in page.results(written(tmp_path, one), "full")


def test_a_study_is_one_table_of_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = module("results")
    rows = {"none": ("adapter=none",), "frozen": ("adapter=frozen",)}
    settings = (*TINY, "trainer.max_steps=3")
    study = experiments.Study("Adapters, tiny", "ner/sample", ".", rows, settings)
    monkeypatch.setattr(loaded, "EXPERIMENTS", study.experiments("tiny"))
    monkeypatch.setattr(loaded, "FOLDER", tmp_path / "json")
    monkeypatch.setattr(experiments.Experiment, "arguments", without_path(experiments.Experiment.arguments))
    assert loaded.main(["--seeds", "1", "--runs", str(tmp_path / "runs"), "--data", str(tmp_path)]) == 0
    text = page.studies(tmp_path / "json")
    assert "### Adapters, tiny" in text
    assert "trainer.max_steps=3 seed=1\n```" in text, "the command is what the rows share"
    cells = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert "| 100 % |" in cells["none"] and cells["none"].endswith("| `adapter=none` |")
    assert "| 0 % |" in cells["frozen"] and cells["frozen"].endswith("| `adapter=frozen` |")
    assert page.results(tmp_path / "json", "full") == "No experiment of this budget has been run yet."


def without_path(arguments: Any) -> Any:
    """The sample takes no path."""
    return lambda self, *folders: [one for one in arguments(self, *folders) if not one.startswith("data.path=")]
