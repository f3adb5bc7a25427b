"""Sweeps: each job is the run that it would be alone, is done once, and no kill changes that."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from filelock import FileLock

import vertebra as api
import vertebra.runs.prepare
from spawner import Done, Spawner, fingerprint
from vertebra.cli.main import main

TINY = [
    "task=ner",
    "gpu=cpu",
    "gpu.threads=1",
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}",
    "data.limit=40",
    "trainer.batch_size=10",
    "trainer.learning_rate=1e-2",
    "trainer.evaluate_every=2",
    "trainer.checkpoint_every=1",
    "trainer.log_every=1",
    "trainer.trackers=[]",
    "trainer.baselines=false",
]


@pytest.fixture(scope="module")
def spawner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with Spawner.started(tmp_path_factory.mktemp("spawner")) as started:
        yield started


def jobs_of(folder: Path) -> dict[str, Path]:
    """Return the run folders of a sweep by name."""
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/run.json"))}


def contents(run: Path) -> dict[str, str]:
    """Return the hash of every file of a run but those that say when it was made."""
    aside = {"run.json", "environment.json", "report.html", "cost.json", ".lock"}  # times are in these
    files = [path for path in run.rglob("*") if path.is_file() and path.name not in aside]
    return {path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --- the same as alone


def check_equal_to_separate_runs(spawner: Spawner, axes: list[str], settings: list[str], tmp_path: Path) -> None:
    """Make a sweep in one process, then each of its jobs in a process of its own, and compare all files."""
    done = spawner("train", *settings, "--multirun", *axes, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert done.returncode == 0, done.output
    jobs = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["jobs"]
    assert len(jobs) == len({job["folder"] for job in jobs}) > 1
    for number, job in enumerate(jobs):
        alone = tmp_path / str(number)
        own = [f"{name}={value}" for name, value in job["axes"].items()]
        done = spawner("train", *settings, *own, f"hydra.run.dir={alone}")
        assert done.returncode == 0, done.output
        assert fingerprint(tmp_path / "sweep" / job["folder"]) == fingerprint(alone)
        assert contents(tmp_path / "sweep" / job["folder"]) == contents(alone)


def test_each_job_is_the_run_that_it_would_be_alone(spawner: Spawner, tmp_path: Path) -> None:
    settings = [*TINY, "trainer.max_steps=4"]
    check_equal_to_separate_runs(spawner, ["seed=1,2", "task.dropout=0.1,0.3"], settings, tmp_path)


@pytest.mark.slow
def test_so_is_each_head_on_a_frozen_backbone(spawner: Spawner, tmp_path: Path) -> None:
    settings = [*TINY, "trainer.max_steps=4", "backbone.freeze=true"]
    check_equal_to_separate_runs(
        spawner, ["trainer.weight_decay=0,0.1", "backbone.freeze=true,false"], settings, tmp_path
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_so_are_jobs_of_several_tasks(spawner: Spawner, tmp_path: Path) -> None:
    settings = [setting for setting in TINY if not setting.startswith("task=")]
    axes = ["task=ner,sentiment,qa,summarization", "seed=1,2"]
    check_equal_to_separate_runs(spawner, axes, [*settings, "trainer.max_steps=4"], tmp_path)


def test_what_jobs_load_they_load_once(tmp_path: Path) -> None:
    counted = ("load_splits", "load_backbone", "encode", "read_once")
    modules = {
        name: mock.patch.object(vertebra.runs.prepare, name, wraps=getattr(vertebra.runs.prepare, name))
        for name in counted
    }
    settings = [*TINY, "trainer.max_steps=1", "backbone.freeze=true", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    with modules["load_splits"] as rows, modules["load_backbone"] as backbones, modules["encode"] as features:
        with modules["read_once"] as readings:
            assert main(["train", "--multirun", *settings, "trainer.weight_decay=0,0.1,0.2"]) == 0
        assert [one.call_count for one in (rows, backbones, features, readings)] == [1, 1, 1, 1]


def test_jobs_that_share_are_done_one_after_the_other(tmp_path: Path) -> None:
    with mock.patch.object(vertebra.runs.prepare, "load_backbone", wraps=vertebra.runs.prepare.load_backbone) as loaded:
        done: list[str] = []

        def launch(todo: Any, host: Any) -> dict[Path, str]:
            done.extend(job.title for job in todo.values())
            return {}

        small, large = (
            {"init": "random", "config": {"n_layer": layers, "n_embd": 32, "n_head": 2}} for layers in (1, 2)
        )
        jobs = [
            api.Job(
                api.configure(task=task, backbone=backbone), {"task": task, "layers": backbone["config"]["n_layer"]}
            )
            for task in ("ner", "sentiment")
            for backbone in (small, large)
        ]
        results = api.run_jobs(jobs, tmp_path / "sweep", launch=launch)
    assert done == ["task=ner layers=1", "task=sentiment layers=1", "task=ner layers=2", "task=sentiment layers=2"]
    assert [one.status for one in results] == ["waiting"] * 4
    assert [one.job for one in results] == jobs
    assert not loaded.called


# --- killed


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return inode and time of change of every file of the finished jobs."""
    runs = [run for run in jobs_of(folder).values() if state_of(run) == "finished"]
    files = [path for run in runs for path in run.rglob("*") if path.is_file()]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def state_of(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text(encoding="utf-8"))["status"])


def worked_on(done: Done) -> list[str]:
    """Return the names of the jobs that a call began or went on with."""
    return [Path(path).name for path in re.findall(r"^Run folder: (.*)$", done.output, re.MULTILINE)]


def check_a_killed_sweep(spawner: Spawner, axes: list[str], settings: list[str], n_jobs: int, tmp_path: Path) -> None:
    """Kill a sweep three times at random moments, with some jobs finished and some not, and compare it with a whole one."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = spawner("train", *settings, "--multirun", *axes, f"hydra.sweep.dir={whole}")
    assert done.returncode == 0, done.output
    moments = int(done.output.split("moments")[-1])
    generator = random.Random(n_jobs)
    command = ["train", *settings, "--multirun", *axes, f"hydra.sweep.dir={killed}"]
    before: dict[Path, tuple[int, int]] = {}
    calls: list[list[str]] = []
    for kill in range(3):
        # A quarter or so of the work each time: some jobs are finished, and some are not.
        share = generator.uniform(0.2, 0.3)
        done = spawner(*command, kill_at=round(share * moments))
        assert done.returncode == -signal.SIGKILL, done.output
        calls.append(worked_on(done))
        now = snapshot(killed)
        assert before.items() <= now.items(), "finished jobs are left as they are"
        assert kill < len({path.parent for path in now if path.name == "run.json"}) < n_jobs
        before = now
    done = spawner(*command)
    assert done.returncode == 0, done.output
    calls.append(worked_on(done))
    assert before.items() <= snapshot(killed).items()
    assert len(set().union(*calls)) == n_jobs == len(jobs_of(killed))
    for earlier, later in pairwise(calls):
        assert set(later) & set(earlier) <= {earlier[-1]}, "only the job in flight is gone on with"
        assert len(later) == len(set(later))
    assert jobs_of(killed).keys() == jobs_of(whole).keys()
    for name, run in jobs_of(killed).items():
        assert fingerprint(run) == fingerprint(whole / name)
        assert not list(run.rglob("*.tmp"))
    tables = [json.loads((folder / "sweep.json").read_text()) for folder in (whole, killed)]
    for table in tables:
        for job in table["jobs"]:
            job.pop("seconds")
    assert tables[0] == tables[1]
    untouched = snapshot(killed)
    done = spawner(*command)
    assert (done.returncode, worked_on(done)) == (0, [])
    assert snapshot(killed) == untouched


@pytest.mark.timeout(900)
def test_a_killed_sweep_ends_as_it_would_have(spawner: Spawner, tmp_path: Path) -> None:
    check_a_killed_sweep(spawner, ["seed=1,2,3", "task.dropout=0,0.1"], [*TINY, "trainer.max_steps=3"], 6, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_killed_sweep_of_24_jobs_ends_as_it_would_have(spawner: Spawner, tmp_path: Path) -> None:
    axes = ["backbone.freeze=false,true", "seed=1,2,3,4", "task.dropout=0,0.1,0.2"]
    check_a_killed_sweep(spawner, axes, [*TINY, "trainer.max_steps=8"], 24, tmp_path)


def test_growing_an_axis_keeps_what_is_there(spawner: Spawner, tmp_path: Path) -> None:
    command = ["train", *TINY, "trainer.max_steps=1", "--multirun", f"hydra.sweep.dir={tmp_path}"]
    assert spawner(*command, "seed=1,2").returncode == 0
    before = snapshot(tmp_path)
    # An axis that was none before, whose first value is what the others had, and a setting that changes no result.
    done = spawner(*command, "seed=3,2,1", "task.dropout=0.1,0.2", "trainer.log_every=2")
    assert done.returncode == 0, done.output
    assert len(worked_on(done)) == 4
    assert before.items() <= snapshot(tmp_path).items()
    table = json.loads((tmp_path / "sweep.json").read_text())
    assert table["axes"] == {"seed": [3, 2, 1], "task.dropout": [0.1, 0.2]}
    assert [job["axes"]["seed"] for job in table["jobs"]] == [3, 3, 2, 2, 1, 1]
    assert [one["finished"] for one in table["means"]] == [3, 3]


# --- what goes wrong


def test_finished_jobs_whose_data_have_changed_since_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "valid", "test"):
        (data / f"{split}.csv").write_text("text,label\n" + "good,1\nbad,0\n" * 6, encoding="utf-8")
    later = (data / "train.csv").stat().st_mtime + 3600
    settings = [one for one in TINY if not one.startswith("task=")]
    call = [
        "train",
        "--multirun",
        "task=sentiment",
        "data=sentiment/files",
        f"data.path={data}",
        *settings,
        "trainer.max_steps=1",
    ]
    call += ["seed=1,2", f"hydra.sweep.dir={data / 'sweep'}"]
    assert main(call) == 0
    (data / ".swap").touch()
    os.utime(data / ".swap", (later, later))
    assert main(call) == 0
    assert "written since" not in caplog.text  # its own runs are in the folder of the data, too
    os.utime(data / "train.csv", (later, later))
    assert main(call) == 0
    assert f"'{data}' has been written since these jobs were finished" in caplog.text
    assert len(re.findall(r"sentiment-nano-seed[12]-", caplog.text)) == 2


def test_two_sweeps_in_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sweep"
    folder.mkdir()
    with FileLock(folder / ".sweep.lock"):
        assert main(["train", *TINY, "--multirun", "seed=1,2", f"hydra.sweep.dir={folder}"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vertebra: Another sweep is working in '{folder}'.")
    assert [path.name for path in folder.iterdir()] == [".sweep.lock"]


@pytest.mark.slow
def test_a_full_disk_fails_the_jobs_and_loses_nothing(spawner: Spawner, tmp_path: Path) -> None:
    settings = [*TINY, "trainer.max_steps=2", "--multirun", "seed=1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    # Checkpoints and models of this backbone are over 1 MB; configurations, logs and tables stay far below.
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))\n"
        "from vertebra.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "sys.exit(10 * main(sys.argv[1:]) + code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "train", *settings], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("Failed: seed=") == done.stdout.count(": Cannot write '") / 2 == 2
    assert "Traceback" not in done.stderr
    jobs = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["jobs"]
    assert [job["status"] for job in jobs] == ["finished", "finished"]
