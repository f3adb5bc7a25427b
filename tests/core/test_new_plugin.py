"""`vertebra new-plugin`: what it writes is installed, learns, passes its own tests, and is code to be proud of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugin_site import PluginSite
from vertebra.cli.main import main
from vertebra.config.options import configure
from vertebra.host.manager import create_host
from vertebra.scaffold.families import FAMILIES
from vertebra.scaffold.write import LONGEST, render

NAME = "my_task"
QUIET = ("trainer.trackers=[]", "gpu.threads=1")


@pytest.fixture
def site(site: PluginSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginSite]:
    monkeypatch.chdir(tmp_path)
    yield site
    for name in [name for name in sys.modules if name.partition(".")[0] == f"vertebra_{NAME}"]:
        del sys.modules[name]  # it lies beside the site, which only links to it


def write(family: str, site: PluginSite, name: str = NAME) -> Path:
    """Write a plugin beside the site and install it; return its folder."""
    assert main(["new-plugin", name, "--family", family]) == 0
    site.install_package(Path(name).absolute() / f"vertebra_{name}", name)
    return Path(name).absolute()


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- what is written


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_plugin_is_found_composes_and_runs(family: str, site: PluginSite, tmp_path: Path) -> None:
    write(family, site)
    host = create_host()
    assert not [one.error for one in host.plugins if one.state != "active"]
    config = configure(host, task=NAME)
    assert config.tasks[0].data.format == f"{NAME}_sample"
    few = ("data.limit=8", "trainer.max_steps=1", *QUIET)
    assert main(["train", f"task={NAME}", *few, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))["test"]
    baselines = json.loads((tmp_path / "run" / "baselines.json").read_text(encoding="utf-8"))
    assert baselines
    assert all(set(one["scores"]["test"]) == set(scores) for one in baselines.values())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["x", "a" * LONGEST, "two_words2"])
def test_what_is_written_is_formatted_whatever_the_name(
    family: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", name, "--family", family, "--into", str(tmp_path)]) == 0
    folder = tmp_path / name
    run(sys.executable, "-m", "ruff", "check", "--no-cache", ".", cwd=folder)
    run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", ".", cwd=folder)
    for file in folder.rglob("*"):
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            assert text == "" or text.endswith("\n")
            assert "{{" not in text and "{%" not in text and not text.endswith("\n\n")
            assert "README" in file.name or max(map(len, text.splitlines()), default=0) <= 128


@pytest.mark.parametrize("family", FAMILIES)
def test_the_files_fit_together(family: str) -> None:
    files = {str(path): text for path, text in render(NAME, family)}
    project = tomllib.loads(files["pyproject.toml"])
    assert project["project"]["entry-points"]["vertebra"] == {NAME: f"vertebra_{NAME}"}
    assert yaml.safe_load(files[f"vertebra_{NAME}/conf/data/{NAME}/sample.yaml"]) == {"format": f"{NAME}_sample"}
    steps = yaml.safe_load(files[".github/workflows/test.yml"])["jobs"]["test"]["steps"]
    assert {"run": "python -m pytest"} in steps
    named = [line.split("`")[1] for line in files["README.md"].splitlines() if line.startswith("| `")]
    for place in named:
        assert any(path == place or path.startswith(place) for path in files), f"README.md names {place}"
    for path in files:
        assert any(path.startswith(place) for place in named) or "/" not in path or path.endswith("py.typed")
    assert f"tests/test_{NAME}.py" in files
    assert sum(len(text.splitlines()) for path, text in files.items() if path.endswith("/task.py")) <= 80


def test_the_next_steps_are_said(capsys: pytest.CaptureFixture[str], site: PluginSite) -> None:
    write("ranking", site)
    said = capsys.readouterr().out
    assert f"pip install -e '{NAME}[dev]'" in said
    assert f"vertebra train task={NAME}" in said


def test_the_help_lists_the_families(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["new-plugin", "--help"])
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in FAMILIES)


def test_writing_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from vertebra.cli.main import main; assert main(['new-plugin', 'x', '--family', 'custom']) == 0\n"
        "assert not {'torch', 'transformers', 'numpy', 'pydantic'} & set(sys.modules)"
    )
    run(sys.executable, "-c", code, cwd=tmp_path)


# --- what is refused


@pytest.mark.parametrize(
    ("name", "family", "reason"),
    [
        ("MyTask", "custom", "'MyTask' is no name for a task: use at most 30 lower-case letters"),
        ("MyTask", "custom", "; 'my_task' would be one."),
        ("my-task", "custom", "'my_task' would be one"),
        ("2nd", "custom", "a letter first"),
        ("class", "custom", "no word of Python's own."),
        ("tâche", "custom", "is no name for a task"),
        ("../up", "custom", "'up' would be one"),
        ("", "custom", "'' is no name for a task"),
        ("a" * (LONGEST + 1), "custom", "at most 30"),
        ("ner", "custom", "There is a task 'ner' already, of plugin 'ner' (vertebra"),
        ("speed", "custom", "There is a plugin 'speed' (vertebra"),
        ("conf", "custom", "There is a Python package 'vertebra_conf' already."),
        ("my_task", "spans", "There is no family 'spans'. Did you mean 'span'? Known: custom, generation, ranking,"),
        ("there", "custom", "exists already: remove it, choose another name, or another place with --into FOLDER."),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    name: str, family: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert main(["new-plugin", name, "--family", family]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_that_is_not_there_is_refused(tmp_path: Path, capsys: Any) -> None:
    assert main(["new-plugin", "x", "--family", "span", "--into", str(tmp_path / "none")]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    real = Path.write_text

    def full(self: Path, *arguments: Any, **options: Any) -> int:
        if self.name == "sample.py":
            raise OSError(28, "No space left on device", str(self))
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    assert main(["new-plugin", "x", "--family", "span", "--into", str(tmp_path)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"] or not list(tmp_path.iterdir())


# --- what takes longer


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_sample_is_learnt_far_beyond_the_baselines(family: str, site: PluginSite, tmp_path: Path) -> None:
    write(family, site)
    assert main(["train", f"task={NAME}", *QUIET, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))["test"]
    baselines = json.loads((tmp_path / "run" / "baselines.json").read_text(encoding="utf-8"))
    name, score = next(iter(scores.items()))
    others = [one["scores"]["test"][name] for one in baselines.values()]
    if name.endswith("_error"):
        assert score < min(others) / 2
    else:
        assert 1 - score < (1 - max(others)) / 2  # less than half of the errors


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_plugins_own_tests_pass(family: str, site: PluginSite) -> None:
    folder = write(family, site)
    env = {**site.environment(), "VERTEBRA_CACHE": str(site.folder / "cache"), "HF_HUB_OFFLINE": "1"}
    run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder, env=env)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_written_is_typed(site: PluginSite, tmp_path: Path) -> None:
    for number, family in enumerate(FAMILIES):
        write(family, site, f"typed_{number}")
    folders = [str(tmp_path / f"typed_{number}" / f"vertebra_typed_{number}") for number in range(len(FAMILIES))]
    root = Path(__file__).parents[2]
    env = {**os.environ, "MYPYPATH": os.pathsep.join([*(str(Path(one).parent) for one in folders), str(root / "core")])}
    config = ("--strict", "--config-file", str(root / "pyproject.toml"), "--cache-dir", str(tmp_path / "mypy"))
    packages = [part for number in range(len(FAMILIES)) for part in ("-p", f"vertebra_typed_{number}")]
    run(sys.executable, "-m", "mypy", *config, *packages, cwd=tmp_path, env=env)
