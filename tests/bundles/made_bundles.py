"""Small task bundles over one backbone, and the runs that they are made from."""

from __future__ import annotations

from pathlib import Path

from vertebra.cli.main import main

SETTINGS = [
    *("gpu=cpu", "gpu.threads=1", "gpu.precision=fp32", "data.limit=16", "trainer.max_steps=1", "trainer.batch_size=8"),
    *("trainer.trackers=[]", "trainer.baselines=false"),
]
ADAPTERS = {"ner": "lora", "sentiment": "frozen"}
"""For the fast tests; the slow ones have all tasks, those that write among them."""
TEXT = "Mr Orvann visited Talbek."


def command(*arguments: object) -> None:
    """Run the command line in this process; it must succeed."""
    assert main([str(argument) for argument in arguments]) == 0


def train(folder: Path, task: str, adapter: str, *more: str) -> Path:
    short = ["task.max_new_tokens=4", "data.limit=8"] if task in ("summarization", "translation") else []
    command("train", f"task={task}", f"adapter={adapter}", *SETTINGS, *short, *more, f"hydra.run.dir={folder}")
    return folder


def make_runs(base: Path, folder: Path) -> dict[str, Path]:
    """Train the tasks of `ADAPTERS` over a backbone."""
    over = ["backbone=hf", f"backbone.path={base}"]
    return {task: train(folder / task, task, adapter, *over) for task, adapter in ADAPTERS.items()}


def make_bundles(runs: dict[str, Path], folder: Path) -> dict[str, Path]:
    """Export runs as bundles."""
    for task, run in runs.items():
        command("bundle", "export", run, folder / task)
    return {task: folder / task for task in runs}
