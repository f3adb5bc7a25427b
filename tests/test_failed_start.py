"""A run that failed before its first step stands in nobody's way; one that can go on is never touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from bad_files import GOOD
from spawner import fingerprint
from vertebra.cli.main import main
from vertebra.engine.trainer import Trainer
from vertebra.errors import RunError
from vertebra.runs.folder import RunFolder

SETTINGS = [
    "task=ner",
    "data=ner/conll",
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}",
    "gpu=cpu",
    "gpu.threads=1",
    "trainer.max_steps=2",
    "trainer.batch_size=10",
    "trainer.trackers=[]",
    "trainer.baselines=false",
]


def state_of(run: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return state


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder in which two files could be the training split."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train.conll", "training.conll"):
        (folder / name).write_text(GOOD, encoding="utf-8")
    return folder


@pytest.fixture
def failed(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A run that could not begin, beside a file that is not its own."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_text("mine", encoding="utf-8")
    assert main(["train", *SETTINGS, f"data.path={data}", f"hydra.run.dir={run}"]) == 2
    assert "Several files could be the split 'train'" in capsys.readouterr().err
    assert state_of(run)["status"] == "failed"
    return run


def test_the_mended_command_takes_the_folder(failed: Path, data: Path, tmp_path: Path) -> None:
    command = ["train", *SETTINGS, f"data.path={data / 'train.conll'}"]
    RunFolder(failed).write_json("baselines.json", {"of": "the run that failed"})
    RunFolder(failed).update_state(key="of the run that failed")
    assert main([*command, f"hydra.run.dir={failed}"]) == 0
    assert main([*command, f"hydra.run.dir={tmp_path / 'other'}"]) == 0
    assert fingerprint(failed) == fingerprint(tmp_path / "other")
    assert (failed / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert not (failed / "baselines.json").exists()
    assert state_of(failed).keys() == state_of(tmp_path / "other").keys()


def test_it_can_be_resumed_when_its_data_are_mended(failed: Path, data: Path) -> None:
    (data / "training.conll").unlink()
    assert main(["resume", str(failed)]) == 0
    assert state_of(failed)["status"] == "finished"


def test_what_failed_once_its_key_was_known_takes_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a sweep, whose jobs keep their folders whatever stands at the path of their data."""
    (tmp_path / "rows.conll").write_text(GOOD, encoding="utf-8")
    command = ["train", *SETTINGS, f"data.path={tmp_path / 'rows.conll'}", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    with monkeypatch.context() as patch:

        def fail(self: Trainer) -> None:
            raise RunError("the rows do not suit")

        patch.setattr(Trainer, "fit", fail)
        assert main([*command, "--multirun", "seed=1,2"]) == 1
    assert capsys.readouterr().out.count(": the rows do not suit") == 4  # as they come, and at the end
    jobs = [path.parent for path in (tmp_path / "sweep").glob("*/run.json")]
    assert [state_of(job)["reason"] for job in jobs] == ["the rows do not suit"] * 2
    assert all("key" in state_of(job) for job in jobs)
    (tmp_path / "rows.conll").write_text(GOOD.replace("Paris", "Rome"), encoding="utf-8")
    assert main([*command, "--multirun", "seed=1,2", "trainer.log_every=1"]) == 0
    assert {state_of(job)["status"] for job in jobs} == {"finished"}
    assert all("log_every: 1\n" in (job / "config.yaml").read_text(encoding="utf-8") for job in jobs)


def test_another_process_may_be_faster(failed: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(failed)
    with FileLock(failed / ".lock"):
        assert main(["train", *SETTINGS, f"data.path={data / 'train.conll'}", f"hydra.run.dir={failed}"]) == 2
    assert "Another process is working in" in capsys.readouterr().err
    assert snapshot(failed) == before


@pytest.mark.parametrize(
    ("status", "left"),
    [
        ("running", None),  # killed before its first step
        ("stopped", None),
        ("pruned", None),
        ("finished", None),
        ("failed", "log.jsonl"),
        ("failed", "checkpoints/step-00000001/state.json"),
    ],
)
def test_what_can_go_on_is_kept(status: str, left: str | None, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    run.write_config({"seed": 1})
    run.update_state(status=status, reason=None)
    if left is not None:
        (run.path / left).parent.mkdir(parents=True, exist_ok=True)
        (run.path / left).write_text("{}\n", encoding="utf-8")
    before = snapshot(run.path)
    with pytest.raises(RunError, match="already holds a run"):
        RunFolder.create(run.path)
    assert snapshot(run.path) == before


def test_what_is_of_another_version_is_kept(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    run.write_json("run.json", {"format": 99, "status": "failed"})
    with pytest.raises(RunError, match="already holds a run"):
        RunFolder.create(run.path)
