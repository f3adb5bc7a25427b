"""The example plugins: short, honest samples, and every promise kept."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import vertebra
from plugin_site import PluginSite
from vertebra.testing import check_task

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"
TASKS = {"readability": "vertebra-readability", "pos": "vertebra-pos", "multiple_choice": "vertebra-multiple-choice"}


def package_of(task: str) -> Path:
    """Return the Python package of an example."""
    return EXAMPLES / TASKS[task] / f"vertebra_{task}"


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The task of an example, which is installed as pip would leave it."""
    name: str = request.param
    package = package_of(name)
    project = tomllib.loads((package.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    files = [file for file in package.rglob("*") if file.suffix in (".py", ".yaml")]
    modules = {file.relative_to(package.parent).as_posix(): file.read_text(encoding="utf-8") for file in files}
    site = PluginSite(tmp_path / "site", monkeypatch)
    source = modules[f"{package.name}/__init__.py"]
    site.install(project["name"], source, plugins=project["entry-points"]["vertebra"], modules=modules)
    yield name
    site.forget()


@pytest.mark.parametrize("name", TASKS)
def test_an_example_is_short(name: str) -> None:
    lines = [line for file in package_of(name).rglob("*.py") for line in file.read_text(encoding="utf-8").splitlines()]
    assert sum(bool(line.strip()) for line in lines) <= 60


def test_an_example_keeps_what_shows_without_training(task: str) -> None:
    trained = ("baselines", "learns", "saved", "resume", "modes", "multirun")
    check_task(task, skip=dict.fromkeys(trained, "it is in the slow test"))


@pytest.mark.slow
def test_an_example_keeps_every_promise(task: str) -> None:
    check_task(task)


def test_a_sample_is_no_lookup(task: str) -> None:
    """The same rows each time; words of the test part are unseen, and what they mean alone says little."""
    host = vertebra.create_host()
    read = host.get("reader", f"{task}_sample").load()
    rows = read(vertebra.DataConfig())
    assert rows == read(vertebra.DataConfig())
    seen, new = ({word for row in rows[split] for word in words(row)} for split in ("train", "test"))
    assert len(new - seen) > 100
    assert not {str(row) for row in rows["train"]} & {str(row) for row in rows["test"]}


def words(row: dict[str, object]) -> list[str]:
    """Return the words of a row of any example."""
    texts = [value for name, value in row.items() if name not in ("score", "tags", "answer")]
    return [
        word for text in texts for part in (text if isinstance(text, list) else [text]) for word in str(part).split()
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "score"), [("pos", 0.95), ("multiple_choice", 0.9)])
def test_a_small_model_learns_the_sample(
    name: str, score: float, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = package_of(name)
    modules = {
        file.relative_to(package.parent).as_posix(): file.read_text(encoding="utf-8")
        for file in package.rglob("*")
        if file.suffix in (".py", ".yaml")
    }
    site = PluginSite(tmp_path / "site", monkeypatch)
    site.install(TASKS[name], modules[f"{package.name}/__init__.py"], plugins={name: package.name}, modules=modules)
    try:
        backbone = {"init": "random"}  # which the task may read as it prefers, in both directions
        config = vertebra.configure(
            task=name, backbone=backbone, gpu={"option": "cpu", "threads": 1}, trainer={"baselines": False}
        )
        end = vertebra.train(config, tmp_path / "run")
    finally:
        site.forget()
    assert next(iter(end.metrics["test"].values())) > score
