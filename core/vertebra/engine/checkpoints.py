"""Checkpoints: folders that are either whole or not there.

A checkpoint is written beside its place, flushed to the disk and renamed. Weights are safetensors, the optimizer's state
is a file that a weights-only unpickler reads, the rest is JSON. `manifest.json`, written last, has every file's hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from vertebra.errors import RunError

MANIFEST = "manifest.json"

UNUSABLE = (AttributeError, LookupError, OSError, RuntimeError, SafetensorError, TypeError, UnpicklingError, ValueError)
"""What files raise that are whole but not what this run wrote."""


def write_folder(place: Path, fill: Callable[[Path], None]) -> None:
    """Make the folder `place` with the files that `fill` writes, all of it or nothing."""
    aside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        fill(aside)
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        seal(aside, place, {path.relative_to(aside).as_posix(): file_hash(path) for path in files})
    except (OSError, SafetensorError, RuntimeError) as error:  # the writers of weights raise the latter on a full disk
        raise RunError(
            f"Cannot write '{place}': {short_reason(error)}. What was written before is intact: make room and resume the run."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def seal(aside: Path, place: Path, hashes: Mapping[str, str]) -> None:
    """Give the folder `aside` its manifest, and then its place; everything is on the disk before."""
    (aside / MANIFEST).write_text(json.dumps({"files": dict(hashes)}, indent=1), encoding="utf-8")
    for path in [*aside.rglob("*"), aside]:
        _flush(path)
    aside.rename(place)
    _flush(place.parent)


def is_whole(folder: Path, part: tuple[int, int] = (0, 1)) -> bool:
    """Whether every file that the manifest names is there, with its hash; of `part` (i, n) every n-th from the i-th on."""
    try:
        hashes = dict(sorted(read_manifest(folder).items())[part[0] :: part[1]])
        if any(path.is_symlink() for path in folder.rglob("*")):  # it may lead anywhere
            return False
        return all(file_hash(folder / name) == expected for name, expected in hashes.items())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def read_manifest(folder: Path) -> dict[str, str]:
    """Return the hash of each file of a folder; OSError, ValueError or KeyError where there is no sound manifest."""
    hashes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    if not isinstance(hashes, dict) or any(Path(name).is_absolute() or ".." in Path(name).parts for name in hashes):
        raise ValueError(f"the manifest of '{folder}' names files outside it")
    return hashes


def short_reason(error: Exception) -> str:
    """Return what an error of the disk, or of a file's form, says."""
    return str(getattr(error, "strerror", None) or error).splitlines()[0].removesuffix(".")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
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
        """Write the checkpoint of a step."""

        def fill(folder: Path) -> None:
            save_model(model, str(folder / "model.safetensors"))
            torch.save(optimizer.state_dict(), folder / "optimizer.pt")
            (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")

        place = self._step(step)
        if place.exists():
            shutil.rmtree(place)
        write_folder(place, fill)
        return place

    def save_best(self, step: int, model: nn.Module) -> None:
        """Write the best weights so far."""
        place = self._best(step)
        if is_whole(place):
            return
        shutil.rmtree(place, ignore_errors=True)
        write_folder(place, lambda folder: save_model(model, str(folder / "model.safetensors")))

    def forget(self, best_step: int) -> None:
        """Remove what is no longer needed: all but the latest checkpoints and the best weights."""
        old = [place for place in self.folder.glob("best-*") if place != self._best(best_step)]
        for place in [*old, *self._steps()[: -self.keep]]:
            shutil.rmtree(place)

    def load_newest(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """Take up the newest whole checkpoint and return its state; None where there is none.

        The optimizer's file is read by torch's weights-only unpickler, which makes tensors and plain values alone.
        """
        for place in reversed(self._steps()):
            if not is_whole(place):
                continue
            try:
                load_model(model, str(place / "model.safetensors"))
                optimizer.load_state_dict(torch.load(place / "optimizer.pt", weights_only=True))
                state = dict(json.loads((place / "state.json").read_text(encoding="utf-8")))
            except UNUSABLE as error:
                raise RunError(f"The checkpoint in '{place}' is not one of this run: {short_reason(error)}.") from error
            return state
        return None

    def load_best(self, step: int, model: nn.Module) -> None:
        """Put the weights of the best step into the model."""
        place = self._best(step)
        if not is_whole(place):
            raise RunError(f"The best weights in '{place}' are damaged or missing; start the run again.")
        try:
            load_model(model, str(place / "model.safetensors"))
        except UNUSABLE as error:
            raise RunError(
                f"The best weights in '{place}' are not those of this run: {short_reason(error)}."
            ) from error

    def hashes(self, best_step: int) -> dict[str, str]:
        """Return the SHA-256 of the weights of the last step and, where there is one, of the best one."""
        places = {"last": self._steps()[-1:], "best": [self._best(best_step)]}
        return {
            name: read_manifest(place)["model.safetensors"]
            for name, found in places.items()
            for place in found
            if place.exists()
        }

    def clear(self) -> None:
        """Remove all checkpoints: a finished run has its model beside them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))

    def _step(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _best(self, step: int) -> Path:
        return self.folder / f"best-{step:08d}"
