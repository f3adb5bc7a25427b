"""Checkpoints: folders that are either whole or not there.

A checkpoint is written beside its place, flushed to the disk and renamed. Weights are safetensors, the optimizer's state
is a file that a weights-only unpickler reads, the rest is JSON. `manifest.json`, written last, has every file's hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn

from vertebra.errors import RunError

MANIFEST = "manifest.json"


def write_folder(place: Path, fill: Callable[[Path], None]) -> None:
    """Make the folder `place` with the files that `fill` writes, all of it or nothing."""
    aside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        fill(aside)
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        hashes = {path.relative_to(aside).as_posix(): _hash(path) for path in files}
        (aside / MANIFEST).write_text(json.dumps({"files": hashes}, indent=1), encoding="utf-8")
        for path in [*aside.rglob("*"), aside]:
            _flush(path)
        aside.rename(place)
        _flush(place.parent)
    except OSError as error:
        raise RunError(f"Cannot write '{place}': {error.strerror or error}. Make room and resume the run.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def is_whole(folder: Path) -> bool:
    """Whether every file that the manifest names is there, with its hash."""
    try:
        hashes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return all(_hash(folder / name) == expected for name, expected in hashes.items())
    except (OSError, ValueError, KeyError):
        return False


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Checkpoints:
    """The checkpoints of one run: the latest ones, to go on from, and the weights of the best one."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> Path:
        """Write the checkpoint of a step, and remove those that are too old."""

        def fill(folder: Path) -> None:
            save_model(model, str(folder / "model.safetensors"))
            torch.save(optimizer.state_dict(), folder / "optimizer.pt")
            (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")

        place = self.folder / f"step-{step:08d}"
        if place.exists():
            shutil.rmtree(place)
        write_folder(place, fill)
        for old in sorted(self.folder.glob("step-*"))[: -self.keep]:
            shutil.rmtree(old)
        return place

    def save_best(self, step: int, model: nn.Module) -> None:
        """Write the best weights so far, then remove the former ones."""
        place = self.folder / f"best-{step:08d}"
        if not place.exists():
            write_folder(place, lambda folder: save_model(model, str(folder / "model.safetensors")))
        for old in self.folder.glob("best-*"):
            if old != place:
                shutil.rmtree(old)

    def load_best(self, model: nn.Module) -> None:
        """Put the best weights into the model."""
        best = max(self.folder.glob("best-*"))
        load_model(model, str(best / "model.safetensors"))

    def clear(self) -> None:
        """Remove all checkpoints: a finished run has its model beside them."""
        shutil.rmtree(self.folder, ignore_errors=True)
