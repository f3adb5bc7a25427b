"""Runs in one process and in several: small ones to be compared, and ones that would take hours to be interrupted."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NO_DROPOUT = "resid_pdrop: 0.0, embd_pdrop: 0.0, attn_pdrop: 0.0"
SMALL = [
    "backbone.init=random",
    f"backbone.config={{n_layer: 1, n_embd: 32, n_head: 2, {NO_DROPOUT}}}",
    "task.dropout=0",
    "gpu.threads=1",
    "gpu.precision=fp32",
    "data.limit=40",
    "trainer.log_every=1",
    "trainer.trackers=[]",
]
# 40 examples in steps of 3 and a last one of 1, for which one of two processes has nothing to do.
UNEVEN = ["trainer.batch_size=3", "trainer.max_steps=15", "trainer.learning_rate=1e-3"]
LONG = ["trainer.batch_size=3", "trainer.epochs=100000", "trainer.checkpoint_every=5"]
TWO = ["gpu=ddp", "gpu.device=cpu", "gpu.processes=2"]
TWO_SHARDED = ["gpu=fsdp", "gpu.device=cpu", "gpu.processes=2"]
WAIT = 200.0


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Wait for a condition on a process that still runs."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end and process.poll() is None:
        if found := condition():
            return found
        time.sleep(0.05)
    pytest.fail(f"waited in vain; exit code {process.poll()}")


def message(process: subprocess.Popen[str]) -> list[str]:
    """Return the lines in which a command says how it ended, when it has."""
    _, errors = process.communicate(timeout=WAIT)
    assert "Traceback" not in errors
    return [line for line in errors.splitlines() if line.startswith("vertebra: ")]
