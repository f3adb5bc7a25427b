"""Memory that runs out in a whole run, on the command line: one line, and the run goes on; also in one of two processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plugin_site import PluginSite

SETTINGS = [
    "task=ner",
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}",
    "gpu.threads=1",
    "gpu.precision=fp32",
    "data.limit=40",
    "trainer.batch_size=8",
    "trainer.max_steps=8",
    "trainer.learning_rate=1e-3",
    "trainer.evaluate_every=4",
    "trainer.checkpoint_every=2",
    "trainer.log_every=1",
    "trainer.trackers=[]",
    "trainer.behaviours=[small_memory]",
]
NO_DROPOUT = [
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2, resid_pdrop: 0.0, embd_pdrop: 0.0, attn_pdrop: 0.0}",
    "task.dropout=0",
]

# In one process, or the second of two, memory lasts for so many tokens; at a given step the process is killed.
PLUGIN = """
import os, signal
import torch
from vertebra import BehaviourRef, hookimpl

@hookimpl
def register_behaviours():
    return [BehaviourRef("small_memory", "small_memory:SmallMemory")]

class SmallMemory:
    steps = 0

    @hookimpl
    def forward_starting(self, batch):
        memory = int(os.environ.get("MEMORY", 10**9))
        if os.environ.get("RANK", "1") == "1" and batch.n_tokens > memory:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    @hookimpl
    def step_ending(self):
        self.steps += 1
        if self.steps == int(os.environ.get("KILL_AT", 0)):
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def site(site: PluginSite) -> PluginSite:
    site.install("small-memory", PLUGIN, plugins={"small_memory": "small_memory"})
    return site


def vertebra(site: PluginSite, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vertebra", *arguments]
    environment = site.environment(**variables)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


def notes(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "Memory ran out" in line]


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_a_run_that_ran_out_of_memory_and_was_killed_ends_as_it_would_have(site: PluginSite, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = vertebra(site, "train", *SETTINGS, "gpu=cpu", f"hydra.run.dir={whole}", MEMORY="60")
    assert done.returncode == 0, done.stderr
    assert len(notes(done)) == 1 and "instead of 4096" in notes(done)[0]

    done = vertebra(site, "train", *SETTINGS, "gpu=cpu", f"hydra.run.dir={killed}", MEMORY="60", KILL_AT="6")
    assert done.returncode == -signal.SIGKILL
    done = vertebra(site, "resume", str(killed), MEMORY="60")
    assert done.returncode == 0, done.stderr
    assert not notes(done)  # the smaller budget stood in the checkpoint
    for name in ("model/backbone/model.safetensors", "model/heads.safetensors", "log.jsonl", "evaluations.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
def test_one_of_two_processes_runs_out_of_memory(site: PluginSite, tmp_path: Path) -> None:
    enough, little = tmp_path / "enough", tmp_path / "little"
    settings = [*SETTINGS, *NO_DROPOUT, "gpu=ddp", "gpu.device=cpu", "gpu.processes=2"]
    for folder, memory in ((enough, "1000000"), (little, "30")):
        done = vertebra(site, "train", *settings, f"hydra.run.dir={folder}", MEMORY=memory)
        assert done.returncode == 0, done.stderr
        assert len(notes(done)) == (folder == little)  # told by the main process, whose own memory sufficed
    assert len(log(little)) == 8
    for one, other in zip(log(enough), log(little), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-4)


@pytest.mark.slow
def test_a_sequence_that_does_not_fit_ends_the_run_in_one_line(site: PluginSite, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = vertebra(site, "train", *SETTINGS, "gpu=cpu", f"hydra.run.dir={folder}", MEMORY="3")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    [said] = [line for line in done.stderr.splitlines() if line.startswith("vertebra: ")]
    assert "do not fit into memory" in said and "gradient_checkpointing=true" in said
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["reason"] in said
