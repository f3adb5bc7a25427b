"""Several processes train as one: the same losses and scores, one folder, one end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from process_runs import LONG, SMALL, TWO, TWO_SHARDED, UNEVEN, WAIT, lines, message, read, until
from vertebra.cli.main import main
from vertebra.config.schema import GPUConfig
from vertebra.engine import devices
from vertebra.engine.ranks import FOREIGN
from vertebra.errors import RunError


@pytest.fixture(params=[TWO, TWO_SHARDED], ids=["ddp", "fsdp"])
def long_run(
    tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Path, subprocess.Popen[str], dict[int, psutil.Process]]]:
    """A run in two processes that would take hours, after its first checkpoint: folder, command, process by rank."""
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "vertebra",
        "train",
        "task=ner",
        *SMALL,
        *LONG,
        *request.param,
        f"hydra.run.dir={folder}",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    until(lambda: list(folder.glob("checkpoints/step-*")), process)
    children = psutil.Process(process.pid).children()
    workers = {int(child.environ()["RANK"]): child for child in children}
    assert sorted(workers) == [0, 1]
    yield folder, process, workers
    process.kill()
    process.communicate()
    psutil.wait_procs(list(workers.values()), timeout=10)


# --- the same run


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_two_processes_learn_what_one_learns(seed: int, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, choice in ((one, ["gpu=cpu"]), (two, TWO)):
        arguments = ["task=ner", *choice, *SMALL, *UNEVEN, f"seed={seed}", f"hydra.run.dir={folder}"]
        assert main(["train", *arguments]) == 0
    logs = [lines(folder, "log.jsonl") for folder in (one, two)]
    assert len(logs[0]) == len(logs[1]) == 15
    for alone, together in zip(*logs, strict=True):
        for name in ("step", "loss", "learning_rate", "gradient_norm"):
            assert together[name] == pytest.approx(alone[name], rel=1e-4)
    evaluations = [lines(folder, "evaluations.jsonl") for folder in (one, two)]
    for alone, together in zip(*evaluations, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert together["scores"] == pytest.approx(alone["scores"], abs=1e-9)
    for split, scores in read(one, "metrics.json").items():
        assert read(two, "metrics.json")[split] == pytest.approx(scores, abs=1e-9)
    state = read(two, "run.json")
    assert state["status"] == "finished"
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    assert [line["id"] for line in lines(two, "predictions.jsonl")] == [
        line["id"] for line in lines(one, "predictions.jsonl")
    ]


@pytest.mark.slow
def test_torchrun_starts_the_processes_as_well(tmp_path: Path) -> None:
    settings = ["task=ner", *SMALL, *UNEVEN, "gpu=ddp", "gpu.device=cpu"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, "-m", "vertebra", "train", *settings], cwd=tmp_path, capture_output=True, text=True, timeout=WAIT
    )
    assert done.returncode == 0, done.stderr
    (folder,) = [path.parent for path in tmp_path.rglob("run.json")]
    assert read(folder, "run.json")["status"] == "finished"
    assert "processes: 2" in (folder / "config.yaml").read_text(encoding="utf-8")
    assert done.stdout.count("Run folder: ") == done.stdout.count("Report: ") == 1
    assert done.stderr.count("finished in") == 1
    assert len(lines(folder, "log.jsonl")) == 15


# --- the same end


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run_which_can_be_resumed(
    rank: int, long_run: tuple[Path, subprocess.Popen[str], dict[int, psutil.Process]]
) -> None:
    folder, process, workers = long_run
    workers[rank].kill()
    (said,) = message(process)
    assert process.returncode == 2
    assert f"Process {rank + 1} of 2 was killed by SIGKILL" in said
    assert not [worker for worker in workers.values() if worker.is_running()]
    state = read(folder, "run.json")
    assert state["status"] == "failed" and state["reason"] in said

    step = max(int(path.name.removeprefix("step-")) for path in folder.glob("checkpoints/step-*"))
    again = subprocess.Popen(
        [sys.executable, "-m", "vertebra", "resume", str(folder)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        until(lambda: lines(folder, "log.jsonl")[-1]["step"] > step + 5, again)
        assert [line["step"] for line in lines(folder, "log.jsonl")[: step + 2]] == list(range(1, step + 3))
        again.terminate()
        assert len(message(again)) == 1
    finally:
        again.kill()
        again.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_processes_after_the_same_step(
    number: int, long_run: tuple[Path, subprocess.Popen[str], dict[int, psutil.Process]]
) -> None:
    folder, process, workers = long_run
    process.send_signal(number)
    (said,) = message(process)
    assert process.returncode == 130
    assert said.count("vertebra resume") == 1 and str(folder) in said
    assert not [worker for worker in workers.values() if worker.is_running()]
    assert read(folder, "run.json")["status"] == "stopped"
    step = lines(folder, "log.jsonl")[-1]["step"]
    assert (folder / "checkpoints" / f"step-{step:08d}" / "manifest.json").exists()


@pytest.mark.slow
def test_the_processes_go_with_the_one_that_launched_them(
    long_run: tuple[Path, subprocess.Popen[str], dict[int, psutil.Process]],
) -> None:
    _, process, workers = long_run
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(list(workers.values()), timeout=10)
    assert not alive


@pytest.mark.slow
def test_an_error_of_the_processes_is_said_once(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = ["task=ner", *SMALL, *TWO, "trainer.learning_rate=1e30", f"hydra.run.dir={folder}"]
    done = subprocess.run(
        [sys.executable, "-m", "vertebra", "train", *settings], capture_output=True, text=True, timeout=WAIT
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("vertebra: ")]
    assert "not finite" in said
    state = read(folder, "run.json")
    assert state["status"] == "failed" and state["reason"] in said


# --- what would train alone is refused


@pytest.mark.parametrize("name", FOREIGN)
def test_processes_that_do_not_know_of_each_other_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "2")
    assert main(["train", "task=ner", *SMALL, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert name in said and "gpu.processes=2" in said
    assert not (tmp_path / "run").exists()


def test_processes_that_accelerate_does_not_join_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(devices, "Accelerator", lambda **_: SimpleNamespace(num_processes=1))
    with pytest.raises(RunError, match="each would train alone"):
        devices.set_up(GPUConfig(device="cpu", processes=2, threads=1))


def test_another_number_of_processes_than_configured_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match=r"gpu\.processes=2"):
        devices.set_up(GPUConfig(device="cpu", processes=1, threads=1))


def test_the_cores_are_shared_among_the_processes() -> None:
    cores = len(os.sched_getaffinity(0))
    assert devices.threads_of(GPUConfig(), 1) == cores
    assert devices.threads_of(GPUConfig(), 2) == max(1, cores // 2)
    assert devices.threads_of(GPUConfig(threads=3), 2) == 3
