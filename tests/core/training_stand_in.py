"""Stands in for training: keeps what would be run, and writes what a finished run writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import vertebra.runs.execute
from vertebra.config.document import from_document, to_document
from vertebra.config.schema import RunConfig
from vertebra.engine.events import RunEnd
from vertebra.errors import RunError
from vertebra.host.manager import Host
from vertebra.runs.folder import RunFolder

Runs = list[tuple[RunConfig, Path]]
FILES = ["config.yaml", "data.json", "intervals.json", "metrics.json", "run.json"]
"""What it writes; the command line adds nothing to it."""


def stand_in_for_training(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Replace `train` and `resume`; return what is run. Seed 13 fails, 14 breaks, 15 is interrupted."""
    seen: Runs = []

    def train(config: RunConfig, folder: Path, host: Host, **_: Any) -> RunEnd:
        assert host.names("task")
        seen.append((config, folder))
        run = RunFolder.create(folder)
        run.write_config(to_document(config))
        return finish(run, config)

    def resume(folder: Path, host: Host, **_: Any) -> RunEnd:
        run = RunFolder(folder)
        config = from_document(run.read_config(), host)
        seen.append((config, folder))
        return finish(run, config)

    monkeypatch.setattr(vertebra.runs.execute, "train", train)
    monkeypatch.setattr(vertebra.runs.execute, "resume", resume)
    return seen


def finish(run: RunFolder, config: RunConfig) -> RunEnd:
    """Write what comes of a run."""
    if config.seed == 13:
        run.update_state(status="failed", reason="an unlucky seed")
        raise RunError("an unlucky seed")
    if config.seed == 14:
        raise ZeroDivisionError("division by zero")
    if config.seed == 15:
        run.update_state(status="running")
        raise KeyboardInterrupt
    scores = {"valid": {"entity_f1": 0.5}, "test": {"entity_f1": config.seed / 100}}
    run.write_json("metrics.json", scores)
    run.write_json("intervals.json", {})
    run.write_json("data.json", {"fingerprint": "the rows"})
    run.update_state(status="finished", notes=[], seconds=1.0)
    return RunEnd(run.path, scores, 1.0)
