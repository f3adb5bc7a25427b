"""Other launchers than the process itself: the same table, from the same folders."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from spawner import fingerprint
from test_sweep import TINY, contents
from vertebra.cli.main import main

AXES = ["seed=1,2", "task.dropout=0.1,0.3"]
LAUNCHERS = {
    "joblib": ("hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
    "submitit": (
        "hydra_submitit_launcher",
        ["hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=10"],
    ),
    "ray": ("hydra_ray_launcher", ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"]),
}


def is_installed(module: str) -> bool:
    return find_spec("hydra_plugins") is not None and find_spec(f"hydra_plugins.{module}") is not None


def sweep(folder: Path, *more: str) -> int:
    return main(["train", *TINY, "trainer.max_steps=2", "--multirun", *more, f"hydra.sweep.dir={folder}"])


def table_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    for job in document["jobs"]:
        job.pop("seconds")
    return document


@pytest.mark.timeout(900)
@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHERS)
@pytest.mark.filterwarnings("ignore")  # of the launchers' libraries
def test_a_launcher_gives_the_table_of_one_process(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, choices = LAUNCHERS[name]
    if not is_installed(module):
        pytest.skip(f"needs the extra '{name}'")
    monkeypatch.chdir(tmp_path)
    one, many = tmp_path / "one", tmp_path / "many"
    assert sweep(one, *AXES) == 0
    assert sweep(many, *AXES, *choices) == 0
    assert table_of(many) == table_of(one)
    names = {job["folder"] for job in table_of(one)["jobs"]}
    assert {path.name for path in many.iterdir()} - {".submitit", ".sweep.lock", "sweep.csv", "sweep.json"} == names
    for job in table_of(one)["jobs"]:
        assert fingerprint(many / job["folder"]) == fingerprint(one / job["folder"])
        assert contents(many / job["folder"]) == contents(one / job["folder"])
    # A job that fails in another process is said here, and the others are done.
    assert sweep(many, "trainer.learning_rate=1e-2,1e30", "seed=1,3", "task.dropout=0.1", *choices) == 1
    jobs = table_of(many)["jobs"]
    assert [job["status"] for job in jobs] == ["finished", "finished", "failed", "failed"]
    assert all("is not finite" in job["reason"] for job in jobs if job["status"] == "failed")


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_that_is_not_installed_names_its_extra(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, (choice, *_) = LAUNCHERS[name]
    if is_installed(module):
        pytest.skip(f"the extra '{name}' is installed")
    assert sweep(tmp_path / "sweep", "seed=1,2", choice) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"vertebra: {choice} is not installed: pip install 'vertebra[{name}]'."
    assert not (tmp_path / "sweep").exists()
