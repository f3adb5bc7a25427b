"""`vertebra runs`: which runs are found, filtered and sorted, and what is said of broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import vertebra
from vertebra.cli.main import main
from vertebra.config.document import to_document
from vertebra.runs.folder import RunFolder


def make_run(folder: Path, status: str = "finished", test: float = 0.5, **choices: Any) -> RunFolder:
    """Write what the command reads of a run."""
    run = RunFolder.create(folder)
    run.write_config(to_document(vertebra.configure(**{"task": "ner", **choices})))
    if status == "finished":
        run.write_json("metrics.json", {"valid": {"entity_f1": test - 0.1}, "test": {"entity_f1": test, "loss": 2.0}})
    reason = None if status == "finished" else "the reason"
    run.update_state(status=status, reason=reason, created="2026-01-02T03:04:05+00:00", seconds=61.0)
    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Seven runs, and folders that are none."""
    root = tmp_path / "runs"
    make_run(root / "sweep" / "a", test=0.6, seed=1, trainer={"learning_rate": 1e-3})
    make_run(root / "sweep" / "b", test=0.9, seed=2, trainer={"learning_rate": 1e-3})
    make_run(root / "c", test=0.7, seed=1, task="sentiment", trainer={"learning_rate": 0.1, "max_steps": 5})
    make_run(root / "d", status="failed", seed=3)
    make_run(root / "e", status="running", seed=4)
    make_run(root / "f", status="pruned", seed=5)
    make_run(root / "g").write_json("run.json", {"format": 99, "status": "finished"})
    make_run(root / "a" / "run" / "model" / "deeper")  # within no run: it counts
    make_run(root / "sweep" / "a" / "checkpoints" / "no run of its own")
    (root / "empty").mkdir()
    return root


def listed(root: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert main(["runs", str(root), *arguments, "--json"]) == 0
    return {Path(one["folder"]).relative_to(root).as_posix(): one for one in json.loads(capsys.readouterr().out)}


def test_every_run_is_found_with_its_state(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(runs, capsys=capsys)
    assert {name: one["state"] for name, one in found.items()} == {
        "a/run/model/deeper": "finished",
        "c": "finished",
        "d": "failed",
        "e": "stopped",
        "f": "pruned",
        "g": "unreadable",
        "sweep/a": "finished",
        "sweep/b": "finished",
    }
    assert list(found) == sorted(found)
    assert found["e"]["reason"] == "It was killed."
    assert "format 99" in found["g"]["reason"]
    assert found["sweep/a"]["scores"]["test"]["entity_f1"] == 0.6
    assert found["sweep/a"]["settings"]["trainer.learning_rate"] == 1e-3
    with FileLock(runs / "e" / ".lock"):
        assert listed(runs / "e", capsys=capsys)["."]["state"] == "running"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--where", "trainer.learning_rate=0.001"], ["sweep/a", "sweep/b"]),
        (["--where", "trainer.learning_rate=1e-3", "seed=1"], ["sweep/a"]),
        (["--where", "trainer.learning_rate=1e-3,1e-1", "--where", "seed=1"], ["c", "sweep/a"]),
        (["--where", "task=sentiment"], ["c"]),
        (["--where", "backbone=nano", "trainer.max_steps=5"], ["c"]),
        (["--where", "trainer.max_steps=null", "seed=2"], ["sweep/b"]),
        (["--where", "trainer.baselines=true", "seed=2,3"], ["d", "sweep/b"]),
        (["--where", "seed=99"], []),
        (["--state", "failed", "stopped"], ["d", "e"]),
        (["--state", "finished", "--sort", "entity_f1"], ["sweep/b", "c", "sweep/a", "a/run/model/deeper"]),
        (["--state", "finished", "--where", "seed=1,2", "task=ner", "--sort", "seed", "--reverse"], ["sweep/b"]),
        (["--where", "seed=3,4,5", "--sort", "trainer.learning_rate"], ["d", "e", "f"]),
    ],
)  # fmt: skip
def test_runs_are_chosen_and_sorted(
    arguments: list[str], names: list[str], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = list(listed(runs, *arguments, capsys=capsys))
    assert found[: len(names)] == names
    if "--reverse" not in arguments:
        assert len(found) == len(names)


def test_the_table_says_once_what_all_have(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(runs / "sweep")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["all:", "task=ner", "backbone=nano", "adapter=none"]
    assert lines[2] == ["seed", "state", "begun", "time", "metric", "valid", "test", "run"]
    row = ["1", "finished", "2026-01-02", "03:04", "1", "min", "01", "s", "entity_f1", "50.00", "60.00"]
    assert lines[3] == [*row, str(runs / "sweep" / "a")]
    assert main(["runs", str(runs / "d"), str(runs / "g")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert f"{runs / 'd'}: the reason" in said
    assert any(line.startswith(f"{runs / 'g'}: The run in") for line in said)
    assert main(["runs", str(runs / "empty")]) == 0
    assert capsys.readouterr().err == "No such runs.\n"


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "metrics.json"])
@pytest.mark.parametrize("content", ["", "[]", '"text"', "{", "{}", '{"tasks": 1}', '{"valid": 3}'])
def test_a_damaged_run_does_not_hide_the_others(
    name: str, content: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "sweep" / "a" / name).write_text(content, encoding="utf-8")
    found = listed(runs / "sweep", capsys=capsys)
    assert found["b"]["state"] == "finished"
    assert found["a"]["state"] == "unreadable" or (name, content) == ("metrics.json", "{}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "There is no folder 'nowhere'."),
        (["RUNS", "--where", "sed=1"], "--where sed: none of these runs has it. Did you mean 'seed'?"),
        (["RUNS", "--where", "seed"], "--where seed: write NAME=VALUE"),
        (["RUNS", "--sort", "entity_f"], "--sort entity_f: none of these runs has it. Did you mean 'entity_f1'?"),
        (["RUNS", "--state", "done"], "invalid choice: 'done'"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    arguments: list[str], message: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", *(str(runs) if one == "RUNS" else one for one in arguments)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
