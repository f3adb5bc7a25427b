"""A run that was killed at any moment and resumed ends as the uninterrupted one, bit by bit."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from spawner import Spawner, fingerprint
from vertebra.cli.main import main

RUN = [
    "task=ner",
    "gpu=cpu",
    "gpu.threads=1",
    "gpu.token_budget=60",  # several pieces a step
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}",
    "data.limit=60",
    "trainer.batch_size=12",
    "trainer.epochs=2",
    "trainer.learning_rate=1e-2",
    "trainer.evaluate_every=3",
    "trainer.checkpoint_every=2",
    "trainer.patience=3",
    "trainer.log_every=1",
    "trainer.trackers=[]",
]


@pytest.fixture(scope="module")
def vertebra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    """A quick way to run the command line in processes that may be killed."""
    with Spawner.started(tmp_path_factory.mktemp("spawner")) as spawner:
        yield spawner


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, vertebra: Spawner) -> tuple[dict[str, Any], int]:
    """The hashes of a run that nobody disturbed, and how many moments it had."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = vertebra("train", *RUN, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.output
    assert set(json.loads((folder / "run.json").read_text())["weights"]) == {"last", "best"}
    return fingerprint(folder), int(done.output.split("moments")[-1])


def check_kills(
    vertebra: Spawner,
    kills: int,
    folder: Path,
    uninterrupted: tuple[dict[str, Any], int],
    per_run: int,
    settings: Sequence[str] = RUN,
) -> None:
    """Kill runs at random moments, several times each, resume them, and compare."""
    expected, moments = uninterrupted
    generator = random.Random(kills)
    made = 0
    while made < kills:
        run = folder / f"run-{made}"
        command = ["train", *settings, f"hydra.run.dir={run}"]
        for _ in range(min(per_run, kills - made)):
            done = vertebra(*command, kill_at=generator.randint(1, moments))
            if (run / "run.json").exists() and json.loads((run / "run.json").read_text())["status"] == "finished":
                break
            assert done.returncode == -signal.SIGKILL, done.output
            made += 1
            command = ["resume", str(run)]
        if json.loads((run / "run.json").read_text())["status"] != "finished":
            done = vertebra("resume", str(run))
            assert done.returncode == 0, done.output
        assert fingerprint(run) == expected
        assert not (run / "checkpoints").exists()
        assert not list(run.rglob("*.tmp"))
        shutil.rmtree(run)


@pytest.mark.timeout(900)
def test_a_killed_run_ends_as_it_would_have(
    vertebra: Spawner, tmp_path: Path, uninterrupted: tuple[dict[str, Any], int]
) -> None:
    check_kills(vertebra, 20, tmp_path, uninterrupted, per_run=5)


@pytest.mark.parametrize("cache", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_a_killed_run_on_a_frozen_backbone_ends_as_it_would_have(cache: str, vertebra: Spawner, tmp_path: Path) -> None:
    settings = [*RUN, "backbone.freeze=true", f"data.cache={cache}"]
    whole = tmp_path / "whole"
    done = vertebra("train", *settings, f"hydra.run.dir={whole}")
    assert done.returncode == 0, done.output
    uninterrupted = fingerprint(whole), int(done.output.split("moments")[-1])
    check_kills(vertebra, 6, tmp_path, uninterrupted, per_run=3, settings=settings)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_kills(vertebra: Spawner, tmp_path: Path, uninterrupted: tuple[dict[str, Any], int]) -> None:
    check_kills(vertebra, 100, tmp_path, uninterrupted, per_run=4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_step_and_says_how_to_go_on(
    number: signal.Signals, tmp_path: Path, uninterrupted: tuple[dict[str, Any], int]
) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "vertebra", "train", *RUN, f"hydra.run.dir={run}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        deadline = time.monotonic() + 120
        while not (run / "log.jsonl").exists() or not (run / "log.jsonl").read_text():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.005)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    state = json.loads((run / "run.json").read_text(encoding="utf-8"))
    if state["status"] != "finished":  # it may have been too fast for the signal
        assert process.returncode == 130
        assert f"vertebra resume '{run}'" in said.splitlines()[-1]
        assert state["status"] == "stopped"
        assert main(["resume", str(run)]) == 0
    assert fingerprint(run) == uninterrupted[0]


def test_what_cannot_be_resumed_is_refused(
    vertebra: Spawner, tmp_path: Path, uninterrupted: tuple[dict[str, Any], int], capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> str:
        capsys.readouterr()
        assert main(["resume", *arguments]) == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vertebra: ")]
        return line

    run = tmp_path / "run"
    assert vertebra("train", *RUN, f"hydra.run.dir={run}", kill_at=uninterrupted[1] // 2).returncode == -signal.SIGKILL
    assert "There is no run folder" in refused(str(tmp_path / "nowhere"))
    assert "not a whole run folder" in refused(str(tmp_path))
    assert "with the settings that it began with" in refused(str(run), "trainer.epochs=3")
    state = json.loads((run / "run.json").read_text(encoding="utf-8"))
    for format_, advice in ((0, "run it again"), (2, "Upgrade")):
        (run / "run.json").write_text(json.dumps({**state, "format": format_}), encoding="utf-8")
        assert advice in refused(str(run))
    (run / "run.json").write_text(json.dumps({**state, "key": "0" * 32}), encoding="utf-8")
    assert "are not what they were" in refused(str(run))
    (run / "run.json").write_text(json.dumps(state), encoding="utf-8")
    assert main(["resume", str(run)]) == 0
    assert fingerprint(run) == uninterrupted[0]
    assert "is finished" in refused(str(run))


def test_a_damaged_checkpoint_is_passed_over(
    vertebra: Spawner, tmp_path: Path, uninterrupted: tuple[dict[str, Any], int]
) -> None:
    run = tmp_path / "run"
    assert (
        vertebra("train", *RUN, f"hydra.run.dir={run}", kill_at=uninterrupted[1] * 2 // 3).returncode == -signal.SIGKILL
    )
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    (newest / "optimizer.pt").write_bytes(b"broken")
    assert main(["resume", str(run)]) == 0
    assert fingerprint(run) == uninterrupted[0]


def test_two_processes_on_one_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "vertebra", "train", *RUN, f"hydra.run.dir={run}"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (run / "log.jsonl").exists():
            assert time.monotonic() < deadline and first.poll() is None
            time.sleep(0.005)
        first.send_signal(signal.SIGSTOP)
        second = subprocess.run(
            [sys.executable, "-m", "vertebra", "resume", str(run)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode == 2
        assert "Another process is working" in second.stderr
        first.send_signal(signal.SIGCONT)
        assert first.wait(timeout=120) == 0
    finally:
        first.kill()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs file size limits of Unix")
def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_resumable(
    tmp_path: Path, uninterrupted: tuple[dict[str, Any], int]
) -> None:
    run = tmp_path / "run"
    # Weights of this model are over 2 MB, optimizer states over 4 MB; logs stay far below.
    code = (
        "import resource, signal, sys\n"
        "from vertebra.engine.checkpoints import Checkpoints\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "inner, saved = Checkpoints.save, []\n"
        "def save(self, *args):\n"
        "    saved.append(1)\n"
        "    if len(saved) == 3:\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "    return inner(self, *args)\n"
        "Checkpoints.save = save\n"
        "from vertebra.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "train", *RUN, f"hydra.run.dir={run}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Cannot write" in done.stderr and "Traceback" not in done.stderr
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] == "failed"
    assert main(["resume", str(run)]) == 0
    assert fingerprint(run) == uninterrupted[0]
