"""What only a GPU can show of whole runs: a short one of each task, on its sample."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vertebra.config.members import compose_run
from vertebra.engine.trainer import Trainer
from vertebra.host.manager import create_host
from vertebra.runs.execute import train
from vertebra.runs.load import load

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]

HOST = create_host()
SHORT = [
    "trainer.max_steps=24",
    "trainer.batch_size=8",
    "gpu=single",
    "gpu.token_budget=4096",
    "gpu.deterministic=false",
]
TASKS = [
    "task=ner",
    "task=sentiment",
    "task=qa",
    "task=answer_selection",
    "task=summarization",
    "task=translation",
    "task=recommendation",
    "task=lm",
    "tasks=[ner,sentiment,qa]",
]


@pytest.fixture
def steps_that_may_not_wait(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a step fail that waits for the device, but for the first ones, in which much is made and recorded."""
    taken: list[int] = []
    plain = Trainer._step

    def watched(trainer: Trainer) -> None:
        taken.append(trainer.progress.step)
        torch.cuda.set_sync_debug_mode("error" if len(taken) > 20 else "default")
        try:
            plain(trainer)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Trainer, "_step", watched)
    return taken


@pytest.mark.parametrize("task", TASKS)
def test_no_step_of_a_task_waits(task: str, steps_that_may_not_wait: list[int], tmp_path: Path) -> None:
    name = task.removeprefix("task=")
    data = [] if task.startswith("tasks=") else [f"data={name}/sample"]
    config = compose_run([task, *data, *SHORT], HOST).config
    end = train(config, tmp_path / "run")
    assert len(steps_that_may_not_wait) == 24
    assert end.metrics["valid"]


def test_what_was_trained_on_a_gpu_predicts_alike_on_the_cpu(tmp_path: Path) -> None:
    config = compose_run(["task=ner", "trainer.max_steps=100", "gpu=single", "gpu.precision=fp32"], HOST).config
    train(config, tmp_path / "run")
    texts = ["Anna Keller flew from Oslo to Lima .", "The board of Nordwind met in Kyoto on Monday ."]
    on_gpu, on_cpu = (load(tmp_path / "run", device=device).predict(texts) for device in ("cuda", "cpu"))
    assert on_gpu == on_cpu
