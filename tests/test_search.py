"""`vertebra search`: what is tried, what is given up, and what a kill changes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from spawner import Spawner, fingerprint
from test_sweep import TINY, snapshot, worked_on
from vertebra.cli.main import main
from vertebra.config.options import configure
from vertebra.host.manager import create_host
from vertebra.runs.folder import RunFolder
from vertebra.runs.jobs import Job, JobResult, folders_of
from vertebra.runs.shared import Shared

pytest.importorskip("optuna", reason="needs the extra 'optuna'")

SPACE = [
    "trainer.learning_rate=tag(log, interval(1e-5, 1e-1))",
    "task.dropout=0,0.1,0.2",
    "trainer.batch_size=range(5,20,5)",
]


@pytest.fixture(scope="module")
def spawner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with Spawner.started(tmp_path_factory.mktemp("spawner")) as started:
        yield started


def command(folder: Path, trials: int, *more: str) -> list[str]:
    settings = [*TINY, *SPACE, "trainer.max_steps=4", "trainer.evaluate_every=1", *more]
    return ["search", *settings, "--trials", str(trials), "--folder", str(folder)]


def jobs_of(folder: Path) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["jobs"]
    return [{name: value for name, value in job.items() if name != "seconds"} for job in jobs]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_search_goes_on_where_it_was(spawner: Spawner, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = spawner(*command(whole, 7))
    assert done.returncode == 0, done.output
    states = {run["folder"]: json.loads((whole / run["folder"] / "run.json").read_text()) for run in jobs_of(whole)}
    assert len(states) == 7
    assert {state["status"] for state in states.values()} == {"finished", "pruned"}
    pruned = [state for state in states.values() if state["status"] == "pruned"]
    assert all(state["reason"].startswith("Pruned at step ") for state in pruned)
    assert all(not (whole / name / "metrics.json").exists() for name in states if states[name]["status"] == "pruned")

    moments = int(done.output.split("moments")[-1])
    before: dict[Path, tuple[int, int]] = {}
    for share in (0.25, 0.3):
        done = spawner(*command(killed, 7), kill_at=round(share * moments))
        assert done.returncode == -signal.SIGKILL, done.output
        assert before.items() <= snapshot(killed).items()
        before = snapshot(killed)
    assert before
    done = spawner(*command(killed, 7))
    assert done.returncode == 0, done.output
    assert 0 < len(worked_on(done)) < 7
    assert before.items() <= snapshot(killed).items()
    assert jobs_of(killed) == jobs_of(whole)
    for job in jobs_of(whole):
        if job["status"] == "finished":
            assert fingerprint(killed / job["folder"]) == fingerprint(whole / job["folder"])

    done = spawner(*command(killed, 8))
    assert len(worked_on(done)) == 1, "a larger number of trials extends a search"
    assert jobs_of(killed)[:7] == jobs_of(whole)
    for more, what in ((["seed=2"], "fixed"), (["--seed", "1"], "seed"), (["trainer.clip=1,2"], "space")):
        done = spawner(*command(killed, 8, *more))
        assert done.returncode == 2
        assert f"holds another search: its {what} differs" in done.output


def test_a_search_killed_between_two_settings_draws_the_second_as_it_would_have(tmp_path: Path) -> None:
    from optuna.distributions import FloatDistribution
    from optuna.trial import Trial

    from vertebra.runs.search import Aim, Plan, draw, open_study

    space = {name: FloatDistribution(0, 1) for name in "abc"}
    plan, aim = Plan(trials=1), Aim("f1", higher_is_better=True)
    drawn = []
    for before in (0, 1, 2):
        folder = tmp_path / str(before)
        folder.mkdir()
        study = open_study(folder, space, plan, [], aim)
        trial = study.ask()
        draw(study, trial, dict(list(space.items())[:before]), plan)
        again = open_study(folder, space, plan, [], aim)
        drawn.append(draw(again, Trial(again, trial._trial_id), space, plan))
    assert drawn[0] == drawn[1] == drawn[2]
    assert len(set(drawn[0].values())) == 3


def test_a_search_knows_its_trials_after_a_plugin_has_changed(tmp_path: Path) -> None:
    """The names of new folders are others then; those of the trials that have ended stay."""
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import Trial

    from vertebra.runs.search import Aim, Attempt, Plan, look, open_study

    host, aim = create_host(), Aim("entity_f1", higher_is_better=True)
    study = open_study(tmp_path, {"seed": CategoricalDistribution([1])}, Plan(trials=1), [], aim)
    trial: Trial = study.ask({"seed": CategoricalDistribution([1])})
    job = Job(configure(task="ner"), {"seed": 1})
    with mock.patch("vertebra.runs.jobs.active_plugins", return_value={"core": "0.0.1"}):
        (run,) = folders_of([job], tmp_path, host)
        RunFolder.create(run.path)
        run.write_json("metrics.json", {"valid": {"entity_f1": 0.5}})
        run.write_json("data.json", {"fingerprint": "0"})
        run.update_state(status="finished", seconds=1.0)
        Attempt(study, trial, job, aim).make(tmp_path, host, Shared())
    assert folders_of([job], tmp_path, host)[0].path != run.path
    (ended,) = study.get_trials()
    found = look(lambda _: job, ended, tmp_path, host)
    assert (found.status, found.folder, found.score("valid")) == ("finished", run.path, 0.5)


@pytest.mark.parametrize("processes", [1, 2])
def test_that_several_processes_are_not_pruned_is_said(
    processes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vertebra.runs.search import Attempt

    def made(self: Attempt, folder: Path, *others: Any) -> JobResult:
        return JobResult(self.job, folder, "finished", metrics={"valid": {"entity_f1": 0.5}})

    settings = ["gpu=ddp", "gpu.device=cpu", f"gpu.processes={processes}"] if processes > 1 else ["gpu=cpu"]
    line = ["search", "task=ner", *settings, "seed=1,2", "--trials", "1"]
    said = "It runs in several processes, which are not given up early"
    for name, more, expected in (("pruned", [], processes > 1), ("whole", ["--no-prune"], False)):
        with mock.patch.object(Attempt, "make", made):
            assert main([*line, *more, "--folder", str(tmp_path / name)]) == 0
        assert (said in capsys.readouterr().out) is expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["task=ner"], "Nothing to search"),
        (["task=ner", "seed=interval(3,1)"], "seed=interval(3,1): "),
        (["task=ner", "seed=range(3,3)"], "seed=range(3,3): "),
        (["task=ner", "seed=1,2", "--trials", "0"], "--trials 0: at least 1"),
        (["task=ner", "trainer.clp=1,2"], "trainer.clp: there is no such setting. Did you mean 'clip'?"),
        (["task=ner", "trainer.clip=0.5,1", "hydra.sweep.dir=x"], "its place is --folder FOLDER"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "search"
    assert main(["search", *arguments, "--folder", str(folder)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert not folder.exists()
