"""What is shipped works in fresh environments: the wheel, the sdist, an editable install, and a plugin by pip."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "docs" / "examples" / "vertebra-readability"
ONE_THREAD = "gpu.threads=1"  # several threads wait for each other wherever another program needs the processor
THREE_STEPS = ("trainer.max_steps=3", "trainer.evaluate_every=3", "trainer.trackers=[]", ONE_THREAD)


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and a folder outside the repository to work in."""

    folder: Path
    work: Path

    def run(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        """Run one of its programs and return what it prints; fail with what it said when it fails."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV", "VIRTUAL"))
        }
        done = subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=cwd or self.work,
            env={**inherited, "PYTHONWARNINGS": "default", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{program} {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def install(self, *what: str, cwd: Path | None = None) -> None:
        """Install with the constraints that take the CPU build of torch."""
        constraints = str(ROOT / "constraints-cpu.txt")
        self.run("python", "-m", "pip", "install", "--quiet", "-c", constraints, *what, cwd=cwd)

    def plugin(self, name: str) -> dict[str, object]:
        """Return what `vertebra plugins` says of a plugin."""
        found = json.loads(self.run("vertebra", "plugins", "--json"))["plugins"]
        return next(plugin for plugin in found if plugin["name"] == name)


def fresh_environment(folder: Path) -> Environment:
    venv.create(folder / "environment", with_pip=True)
    (folder / "work").mkdir()
    return Environment(folder / "environment", folder / "work")


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def installed(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel, and nothing of the repository."""
    environment = fresh_environment(tmp_path_factory.mktemp("wheel"))
    environment.install(str(next(distributions.glob("*.whl"))))
    return environment


@pytest.fixture(scope="module")
def with_example(installed: Environment) -> Environment:
    """The same with the example plugin."""
    copy = installed.work / EXAMPLE.name  # pip may build in the source folder
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    installed.install(str(copy), "pytest")
    return installed


def metrics_of(run: Path) -> dict[str, dict[str, float]]:
    metrics: dict[str, dict[str, float]] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return metrics


def status_of(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text(encoding="utf-8"))["status"])


def test_the_distributions_hold_what_they_should(distributions: Path) -> None:
    wheel = zipfile.ZipFile(next(distributions.glob("*.whl"))).namelist()
    tops = {name.split("/")[0] for name in wheel if ".dist-info" not in name}
    assert tops == {path.name for root in ("core", "plugins", "conf") for path in (ROOT / root).glob("[!.]*/")}
    for name in (
        "vertebra/py.typed",
        "vertebra/nano/tokenizer.json",
        "vertebra_conf/config.yaml",
        "vertebra_ner/conf/data/ner/sample.yaml",
    ):
        assert name in wheel
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)
    caches = ("_cache", "__pycache__")
    assert not [name for name in wheel if any(folder.endswith(caches) for folder in name.split("/")[:-1])]

    with tarfile.open(next(distributions.glob("*.tar.gz"))) as sdist:
        inside = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    assert {"pyproject.toml", "README.md", "LICENSE", "Makefile", "tests/test_install.py", "docs/plugins.md"} <= inside


def test_the_wheel_trains_outside_the_repository(installed: Environment) -> None:
    installed.run("vertebra", "train", "task=ner", *THREE_STEPS, "hydra.run.dir=one")
    assert status_of(installed.work / "one") == "finished"
    assert "entity_f1" in metrics_of(installed.work / "one")["test"]
    assert (installed.work / "one" / "report.html").is_file()


def test_the_wheel_makes_several_runs(installed: Environment) -> None:
    choices = ("task=ner", "backbone=nano", "seed=1,2")
    installed.run("vertebra", "train", "--multirun", *choices, *THREE_STEPS, "hydra.sweep.dir=many")
    runs = [path.parent for path in sorted((installed.work / "many").rglob("run.json"))]
    assert [status_of(run) for run in runs] == ["finished", "finished"]
    keys = {json.loads((run / "run.json").read_text(encoding="utf-8"))["key"] for run in runs}
    assert len(keys) == 2


def test_the_wheel_trains_from_python_as_from_the_command_line(installed: Environment) -> None:
    installed.run("vertebra", "train", "task=ner", *THREE_STEPS, "seed=2", "hydra.run.dir=command")
    script = """
        import sys
        import vertebra
        trainer = {"max_steps": 3, "evaluate_every": 3, "trackers": []}
        for seed in (1, 2):
            config = vertebra.configure(task="ner", trainer=trainer, gpu={"threads": 1}, seed=seed)
            vertebra.train(config, f"python-{seed}")
        assert "hydra" not in sys.modules
    """
    installed.run("python", "-c", "\n".join(line[8:] for line in script.splitlines()))
    command, python = installed.work / "command", installed.work / "python-2"
    assert metrics_of(python) == metrics_of(command)
    assert (python / "config.yaml").read_text() == (command / "config.yaml").read_text()
    assert status_of(installed.work / "python-1") == "finished"


def test_a_plugin_by_pip_is_there(with_example: Environment) -> None:
    plugin = with_example.plugin("readability")
    assert plugin["state"] == "active", plugin["error"]
    assert plugin["source"] == "vertebra-readability"
    assert plugin["registers"] == {
        "task": ["readability"],
        "metric": ["spearman"],
        "reader": ["readability_sample"],
        "config package": ["vertebra_readability.conf"],
    }
    shown = with_example.run("vertebra", "train", "task=readability", "--cfg", "job")
    assert "readability_sample" in shown
    code = "import sys; from vertebra.cli.main import main; main(['plugins']); assert 'torch' not in sys.modules"
    with_example.run("python", "-c", code)


def test_a_plugin_by_pip_learns_its_sample(with_example: Environment) -> None:
    with_example.run(
        "vertebra", "train", "task=readability", "hydra.run.dir=readability", "trainer.epochs=3", ONE_THREAD
    )
    assert metrics_of(with_example.work / "readability")["test"]["spearman"] > 0.85
    predicted = with_example.run("vertebra", "predict", "readability", "--text", "ba di fu")
    assert predicted.strip()


def test_a_plugins_own_tests_pass(with_example: Environment) -> None:
    with_example.run("python", "-m", "pytest", "-q", "-W", "error", str(with_example.work / EXAMPLE.name / "tests"))


@pytest.fixture(scope="module")
def for_authors(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and what authors of plugins need: pytest and little else."""
    environment = fresh_environment(tmp_path_factory.mktemp("authors"))
    environment.install(f"{next(distributions.glob('*.whl'))}[plugin-dev]")
    return environment


@pytest.mark.parametrize("family", ["sequence-classification", "custom"])
def test_a_new_plugin_works_at_once(for_authors: Environment, family: str) -> None:
    name = f"my_{family.replace('-', '_')}"
    folder = for_authors.work / name
    for_authors.run("vertebra", "new-plugin", name, "--family", family)
    for_authors.install("-e", str(folder))
    assert for_authors.plugin(name)["state"] == "active"
    for_authors.run("python", "-m", "pytest", "-q", cwd=folder)
    for_authors.run("vertebra", "train", f"task={name}", f"hydra.run.dir=run-{name}")
    run = for_authors.work / f"run-{name}"
    metric, score = next(iter(metrics_of(run)["test"].items()))
    baselines = json.loads((run / "baselines.json").read_text(encoding="utf-8")).values()
    others = [one["scores"]["test"][metric] for one in baselines]
    assert score < min(others) / 2 if metric.endswith("_error") else score > max(others) + 0.2


def test_an_editable_install_works(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    for root in ("core", "plugins", "conf"):
        shutil.copytree(ROOT / root, clone / root, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone / name)
    environment = fresh_environment(tmp_path)
    environment.install("-e", str(clone))
    where = environment.run("python", "-c", "import vertebra, vertebra_ner, vertebra_conf; print(vertebra.__file__)")
    assert Path(where.strip()).is_relative_to(clone)
    environment.run("vertebra", "train", "task=ner", *THREE_STEPS, "hydra.run.dir=run")
    assert status_of(environment.work / "run") == "finished"

    option = clone / "plugins" / "vertebra_ner" / "conf" / "data" / "ner" / "mine.yaml"
    option.write_text("format: ner_sample\n", encoding="utf-8")
    assert "ner_sample" in environment.run("vertebra", "train", "task=ner", "data=ner/mine", "--cfg", "job")
