"""`vertebra train --multirun`: which jobs there are, where they go, what is said of them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training_stand_in import FILES, Runs, stand_in_for_training

import vertebra
from vertebra.cli.train import main
from vertebra.errors import ConfigError, RunError
from vertebra.host.manager import create_host
from vertebra.report.sweep import means_over_seeds
from vertebra.runs.jobs import Job, JobResult
from vertebra.runs.key import WITHOUT_EFFECT, job_key, job_name

PLUGINS = {"core": "1"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("VERTEBRA_DISABLE", raising=False)
    yield folder


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    return stand_in_for_training(monkeypatch)


def table_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    return document


# --- which jobs, and where


def test_a_sweep_runs_every_combination(runs: Runs, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (elsewhere / "数据 1").mkdir()
    arguments = [
        "task=ner",
        "--multirun",
        "data=ner/conll",
        "seed=1,2",
        "trainer.epochs=1,auto",
        "data.path=数据 1",
        "hydra.sweep.dir=a b",
    ]
    assert main(arguments) == 0
    assert [(config.seed, config.trainer.epochs) for config, _ in runs] == [(1, 1), (1, "auto"), (2, 1), (2, "auto")]
    assert {config.tasks[0].data.path for config, _ in runs} == {str(elsewhere / "数据 1")}
    host = create_host()
    plugins = {plugin.name: plugin.version for plugin in host.plugins}
    assert [folder for _, folder in runs] == [elsewhere / "a b" / job_name(config, plugins) for config, _ in runs]
    names = [folder.name for _, folder in runs]
    assert all(name.startswith(f"ner-nano-seed{config.seed}-") for name, (config, _) in zip(names, runs, strict=True))
    assert sorted(file.name for file in (elsewhere / "a b").iterdir()) == sorted(
        [".sweep.lock", *names, "sweep.csv", "sweep.json"]
    )
    assert sorted(file.name for file in runs[0][1].iterdir()) == FILES
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["2", "auto", "finished", "1", "s", "entity_f1", "50.00", "2.00"] in lines
    assert ["auto", "2", "seeds", "entity_f1", "50.00", "±", "0.00", "1.50", "±", "0.71"] in lines
    rows = list(csv.DictReader((elsewhere / "a b" / "sweep.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["seed"], row["trainer.epochs"], row["test"]) for row in rows] == [
        ("1", "1", "0.01"),
        ("1", "auto", "0.01"),
        ("2", "1", "0.02"),
        ("2", "auto", "0.02"),
    ]


def test_a_sweep_goes_by_default_to_the_same_folder(runs: Runs, elsewhere: Path) -> None:
    assert main(["task=ner", "-m", "seed=1,2"]) == 0
    assert main(["task=ner", "-m", "seed=2,3", "trainer.trackers=[]"]) == 0
    assert [config.seed for config, _ in runs] == [1, 2, 3]
    assert {folder.parent for _, folder in runs} == {elsewhere / "runs" / "sweep"}


def test_jobs_that_are_the_same_are_done_once(runs: Runs, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["task=ner", "-m", "seed=1,2", "trainer.log_every=5,6"]) == 0
    assert len(runs) == 2
    assert [job["status"] for job in table_of(elsewhere / "runs" / "sweep")["jobs"]] == ["finished"] * 4
    assert "2 of 4 jobs would give the same numbers as others" in capsys.readouterr().out


def test_tasks_and_their_data_are_swept(runs: Runs, elsewhere: Path) -> None:
    assert main(["task=ner", "-m", "data=ner/conll2003,ner/conll", f"data.path={elsewhere}"]) == 0
    assert [config.tasks[0].data.format for config, _ in runs] == ["auto", "columns"]
    with pytest.raises(ConfigError, match=r"task=nre: There is no task 'nre'.*\(in 1 of 2 jobs, as task=nre\)"):
        main(["-m", "task=ner,nre"])
    assert main(["-m", "task=ner,sentiment", "seed=1,2"]) == 0
    assert [config.tasks[0].name for config, _ in runs[2:]] == ["ner", "ner", "sentiment", "sentiment"]


# --- keys


def test_a_key_is_of_what_decides_the_result(tmp_path: Path) -> None:
    config = vertebra.configure(task="ner", trainer={"epochs": 3})
    key = job_key(config, PLUGINS)
    same = [
        replace(config, trainer=replace(config.trainer, log_every=3, checkpoint_every=7, trackers=("wandb",))),
        replace(config, tasks=(replace(config.tasks[0], data=replace(config.tasks[0].data, cache=False)),)),
        vertebra.configure(task="ner", trainer={"epochs": 3.0}),
    ]
    assert {job_key(one, PLUGINS) for one in same} == {key}
    other = [
        replace(config, seed=2),
        replace(config, trainer=replace(config.trainer, patience=3)),
        replace(config, tasks=(replace(config.tasks[0], data=replace(config.tasks[0].data, path=str(tmp_path))),)),
        vertebra.configure(task="sentiment", trainer={"epochs": 3}),
    ]
    assert len({key, *(job_key(one, PLUGINS) for one in other)}) == 1 + len(other)
    assert job_key(config, {**PLUGINS, "new": "1"}) != key
    assert job_key(config, {"core": "2"}) != key
    assert {group for group, _ in WITHOUT_EFFECT} == {"trainer"}


def test_a_key_does_not_depend_on_where_one_stands(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "data").mkdir()

    def key(path: str) -> str:
        return job_key(vertebra.configure(task="ner", data={"option": "ner/conll", "path": path}), PLUGINS)

    here = key("data")
    assert here == key(str(elsewhere / "data"))
    monkeypatch.chdir("data")
    assert here == key(str(elsewhere / "data"))
    assert here != key("data")


def test_a_name_is_fit_for_a_folder() -> None:
    backbone = vertebra.BackboneConfig(name="hf", path="someone/模型 (1): α/β?*" + "x" * 300)
    name = job_name(vertebra.RunConfig((vertebra.TaskChoice("ner"),), backbone), PLUGINS)
    assert len(name) < 120
    assert not set(name) & set("/ ():?*")


# --- what fails


def test_a_job_that_fails_stops_no_other_and_is_tried_again(
    runs: Runs, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["task=ner", "-m", "seed=13,2,14"]
    for call in range(2):
        runs.clear()
        assert main(command) == 1
        assert [config.seed for config, _ in runs] == ([13, 2, 14] if call == 0 else [13, 14])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        end = captured.out[captured.out.index("metric") :]
        assert "Failed: seed=13: an unlucky seed\n" in end
        assert "Failed: seed=14: ZeroDivisionError: division by zero\n" in end
        jobs = table_of(elsewhere / "runs" / "sweep")["jobs"]
        assert [(job["status"], job["reason"]) for job in jobs] == [
            ("failed", "an unlucky seed"),
            ("finished", None),
            ("failed", "ZeroDivisionError: division by zero"),
        ]


def test_an_interrupt_stops_the_sweep_and_says_how_to_go_on(
    runs: Runs, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["task=ner", "-m", "seed=1,15,2"]) == 130
    assert [config.seed for config, _ in runs] == [1, 15]
    assert "The same command goes on from here." in capsys.readouterr().out
    jobs = table_of(elsewhere / "runs" / "sweep")["jobs"]
    assert [job["status"] for job in jobs] == ["finished", "stopped", "waiting"]


def test_every_mistake_of_every_job_is_listed_before_the_first_starts(runs: Runs, elsewhere: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        main(["task=ner", "-m", "seed=1,-2", "trainer.epochs=0,1", "trainer.clp=1", "backbone=nano,gpt9"])
    assert [
        line.split(":")[0] + line[line.index(" (in") :] for line in str(caught.value).splitlines() if " (in" in line
    ] == [
        "trainer.epochs=0 (in 4 of 8 jobs, as seed=1 trainer.epochs=0 backbone=nano)",
        "backbone=gpt9 (in 4 of 8 jobs, as seed=1 trainer.epochs=0 backbone=gpt9)",
        "seed=-2 (in 4 of 8 jobs, as seed=-2 trainer.epochs=0 backbone=nano)",
    ]
    assert str(caught.value).count("trainer.clp: there is no such setting. Did you mean 'clip'?") == 1
    with pytest.raises(ConfigError) as caught:
        main(["task=ner", "-m", "seed=1,2", "oops"])
    assert str(caught.value).startswith("'oops' cannot be read")
    assert runs == []
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["backbone=glob(zz*)"], "backbone=glob(zz*): it stands for no value. Known: distilgpt2, gpt2"),
        (["seed=range(3,3)"], "seed=range(3,3): it stands for no value."),
        (["trainer.learning_rate=interval(0,1)"], "`vertebra search` tries some of a range"),
        (["seed=1,2", "hydra/sweeper=optuna"], "hydra/sweeper=optuna: a sweep makes every combination"),
        (["seed=1,2", "hydra.sweep.subdir=x"], "hydra.sweep.subdir='x': the folders of a sweep's jobs are named"),
        (["seed=1,2", "hydra/launcher=jobib"], "jobib"),
        (["seed=1,2", "hydra.launcher.n_job=2"], "n_job"),
    ],
)
def test_what_is_no_sweep_is_refused(overrides: list[str], message: str, runs: Runs, elsewhere: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        main(["task=ner", "-m", *overrides])
    [line] = str(caught.value).splitlines()
    assert message in line
    assert runs == []
    assert list(elsewhere.iterdir()) == []


def test_a_folder_of_another_version_is_refused_before_anything_starts(runs: Runs, elsewhere: Path) -> None:
    assert main(["task=ner", "-m", "seed=1,2"]) == 0
    [first, second] = [folder for _, folder in runs]
    state = (first / "run.json").read_text(encoding="utf-8")
    (first / "run.json").write_text(json.dumps({**json.loads(state), "format": 99}), encoding="utf-8")
    shutil.rmtree(second)
    with pytest.raises(RunError, match=r"has format 99; this version reads 1\. Upgrade vertebra\."):
        main(["task=ner", "-m", "seed=1,2"])
    assert len(runs) == 2
    assert not second.exists()


def test_a_run_is_no_folder_for_a_sweep(runs: Runs, elsewhere: Path) -> None:
    assert main(["task=ner", "hydra.run.dir=one"]) == 0
    with pytest.raises(RunError, match="holds a run; a sweep needs a folder of its own"):
        main(["task=ner", "-m", "seed=1,2", "hydra.sweep.dir=one"])
    (elsewhere / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write in the sweep's folder"):
        main(["task=ner", "-m", "seed=1,2", "hydra.sweep.dir=file/below"])


def test_without_its_plugin_a_job_is_neither_done_nor_lost(
    runs: Runs, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["task=ner", "-m", "seed=13,2"]) == 1
    before = sorted(path for path in elsewhere.rglob("*"))
    monkeypatch.setenv("VERTEBRA_DISABLE", "ner")
    with pytest.raises(ConfigError, match=r"task=ner: There is no task 'ner'.*Not loaded:.*ner"):
        main(["task=ner", "-m", "seed=13,2"])
    assert sorted(path for path in elsewhere.rglob("*")) == before


def test_rows_that_changed_between_jobs_are_said(
    runs: Runs, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["task=ner", "-m", "seed=1,2"]) == 0
    assert "other rows" not in capsys.readouterr().out
    (runs[0][1] / "data.json").write_text('{"fingerprint": "older rows"}', encoding="utf-8")
    assert main(["task=ner", "-m", "seed=1,2"]) == 0
    assert "some jobs saw other rows than others" in capsys.readouterr().out


def test_torchrun_is_for_single_runs(runs: Runs, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="leave torchrun out, and give gpu=ddp instead"):
        main(["task=ner", "-m", "seed=1,2"])
    assert (runs, list(elsewhere.iterdir())) == ([], [])


# --- means


def test_means_are_over_the_seeds_that_have_finished() -> None:
    config = vertebra.configure(task="ner")

    def result(seed: int, rate: float, score: float | None) -> JobResult:
        job = Job(config, {"rate": rate, "seed": seed})
        metrics = {} if score is None else {"test": {"f1": score}}
        return JobResult(job, Path(str(seed)), "failed" if score is None else "finished", metrics=metrics)

    means = means_over_seeds([result(1, 0.1, 0.2), result(2, 0.1, 0.4), result(1, 0.5, None), result(2, 0.5, 0.7)])
    assert [(one.axes, one.n, one.of) for one in means] == [({"rate": 0.1}, 2, 2), ({"rate": 0.5}, 1, 2)]
    assert means[0].means == {"test": pytest.approx(0.3)}
    assert means[0].deviations == {"test": pytest.approx(0.1 * 2**0.5)}
    assert (means[1].means, means[1].deviations) == ({"test": 0.7}, {})
