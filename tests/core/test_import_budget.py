"""What is asked for help must not wait for torch: the modules imported, and the time taken."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from plugin_site import PluginSite

HEAVY = ("torch", "transformers", "datasets", "accelerate", "sklearn", "numpy", "hydra", "pydantic", "matplotlib")

PLUGIN = """
from vertebra import TaskRef, MetricRef, CommandRef, hookimpl

@hookimpl
def register_tasks():
    return [TaskRef("reading", "torchy.task:Reading", config="torchy.config:ReadingConfig")]

@hookimpl
def register_metrics():
    return [MetricRef("deepness", "torchy.task:Deepness")]

@hookimpl
def register_commands():
    return [CommandRef("dive", "torchy.task:dive", summary="dive deep")]
"""
TASK = "import torch\nimport transformers\nimport datasets\n"


@pytest.fixture
def site(site: PluginSite) -> PluginSite:
    site.install("torchy", PLUGIN, modules={"torchy/task.py": TASK, "torchy/config.py": ""})
    return site


def imported(site: PluginSite, statement: str) -> list[str]:
    """Run a statement in a process of its own; return the heavy modules it left behind."""
    program = f"import sys\n{statement}\nsys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], env=site.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [name for name in HEAVY if name in done.stderr.split()]


@pytest.mark.parametrize(
    "statement",
    [
        "import vertebra",
        "from vertebra import hookimpl, TaskRef, MetricRef, VertebraError, create_host",
        "import vertebra; assert any(p.name == 'torchy' for p in vertebra.create_host().plugins)",
        "from vertebra.cli.main import main; assert main(['--help']) == 0",
        "from vertebra.cli.main import main; assert main(['--version']) == 0",
        "from vertebra.cli.main import main; assert main(['plugins']) == 0",
        "from vertebra.cli.main import main; assert main(['plugins', '--json']) == 0",
        "from vertebra.cli.main import main; assert main(['runs', '.', '--json']) == 0",
        "from vertebra.cli.main import main; assert main(['trian']) == 2",
    ],
)
def test_nothing_heavy_is_imported(site: PluginSite, statement: str) -> None:
    assert imported(site, statement) == []


@pytest.mark.parametrize("command", ["--help", "plugins"])
def test_half_a_second(site: PluginSite, command: str) -> None:
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "vertebra", command], env=site.environment(), capture_output=True, text=True
        )
        seconds.append(time.perf_counter() - start)
        assert "torchy" in done.stdout or "dive deep" in done.stdout
    assert min(seconds) < 0.5


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_twenty_plugins_and_one_of_them_broken_in_half_a_second(site: PluginSite, arguments: list[str]) -> None:
    for number in range(18):
        source = PLUGIN.replace("torchy", f"guest_{number}")
        for name in ("reading", "deepness", "dive"):
            source = source.replace(f'"{name}"', f'"{name}_{number}"')
        site.install(
            f"guest-{number}", source, modules={f"guest_{number}/task.py": TASK, f"guest_{number}/config.py": ""}
        )
    site.install("broken", "from nowhere import nothing")
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        command = [sys.executable, "-m", "vertebra", "plugins", *arguments]
        done = subprocess.run(command, env=site.environment(), capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0
        assert all(f"guest-{number}" in done.stdout for number in range(18))
        assert "No module named 'nowhere'" in done.stdout
    assert min(seconds) < 0.5
