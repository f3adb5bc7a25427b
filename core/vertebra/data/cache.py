"""Encoded features on disk, under a key of everything that they were made from.

An entry is a folder: whole numbers in `features.safetensors`, all other targets and notes in `rest.jsonl`, and
`manifest.json` with the checksums of both. It is written aside and renamed when it is whole on disk, so that there is
either a whole entry or none. What does not fit its checksums is as good as absent, and is made anew. The cache may be
deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from vertebra.tasks.features import Features

logger = logging.getLogger(__name__)

FORMAT = 1
_NUMBERS, _REST, _MANIFEST = "features.safetensors", "rest.jsonl", "manifest.json"
_ASIDE = ".writing-"
_DAY = 24 * 3600.0

# How a target is kept: in the JSON lines, or as whole numbers among the tensors: one, or a list.
_AS_JSON, _AS_NUMBER, _AS_LIST = 0, 1, 2


@dataclass(frozen=True)
class Encoded:
    """The features of a split."""

    features: list[Features]
    too_long: int
    """How many rows were over the context."""


def cache_root() -> Path:
    """Return `$VERTEBRA_CACHE`, else the folder `vertebra` in the user's cache."""
    if own := os.environ.get("VERTEBRA_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vertebra"


class FeatureCache:
    """Encoded splits by key, in a folder that several processes may share."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or cache_root()) / "features"

    def get(self, key: str) -> Encoded | None:
        """Return what was put under a key, or None where nothing whole is there."""
        try:
            files = _read(self.root / key)
            return _unpack(files, key)
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever is wrong with the entry, it can be made anew
            logger.warning("Cached features are made anew: '%s' cannot be used: %s", self.root / key, error)
            return None

    def put(self, key: str, encoded: Encoded) -> None:
        """Keep an encoded split; where the folder cannot be written, say so and go on."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._sweep()
            aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=self.root))
            try:
                _write(aside, _pack(encoded, key))
                self._place(aside, key)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        except OSError as error:
            logger.warning("Cannot keep encoded features in '%s': %s. Set VERTEBRA_CACHE=FOLDER.", self.root, error)

    def _place(self, aside: Path, key: str) -> None:
        """Move a whole entry to its place. One that is there holds the same, and stays; a broken one goes."""
        place = self.root / key
        if place.exists() and self.get(key) is None:
            broken = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=self.root))
            try:
                place.rename(broken / key)
            except FileNotFoundError:
                pass  # another writer was faster
            finally:
                shutil.rmtree(broken, ignore_errors=True)
        try:
            aside.rename(place)
        except OSError:
            if not place.is_dir():
                raise
        _sync_folder(self.root)

    def _sweep(self) -> None:
        """Remove what writers that were killed left behind."""
        for left in self.root.glob(f"{_ASIDE}*"):
            try:
                if time.time() - left.stat().st_mtime > _DAY:
                    shutil.rmtree(left, ignore_errors=True)
            except FileNotFoundError:
                pass


# --- files


def _write(folder: Path, files: dict[str, bytes]) -> None:
    manifest = {"format": FORMAT, "checksums": {name: _checksum(content) for name, content in files.items()}}
    for name, content in {**files, _MANIFEST: json.dumps(manifest).encode()}.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _sync_folder(folder)


def _read(folder: Path) -> dict[str, bytes]:
    """Return the files of an entry; ValueError unless each is as it was written."""
    manifest = json.loads((folder / _MANIFEST).read_bytes())
    if manifest["format"] != FORMAT:
        raise ValueError(f"format {manifest['format']}")
    files = {name: (folder / name).read_bytes() for name in (_NUMBERS, _REST)}
    for name, content in files.items():
        if manifest["checksums"][name] != _checksum(content):
            raise ValueError(f"{name} does not fit its checksum")
    return files


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make names in a folder durable, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# --- features as bytes


def _pack(encoded: Encoded, key: str) -> dict[str, bytes]:
    features = encoded.features
    kinds = [_kind(one.target) for one in features]
    numbers = [_numbers(one.target, kind) for one, kind in zip(features, kinds, strict=True)]
    has_rest = [kind == _AS_JSON or bool(one.note) for one, kind in zip(features, kinds, strict=True)]
    rest = [
        json.dumps({"target": one.target if kind == _AS_JSON else None, "note": one.note})
        for one, kind, has in zip(features, kinds, has_rest, strict=True)
        if has
    ]
    tensors = {
        "input_ids": _flat([one.input_ids for one in features], np.int32),
        "input_lengths": np.asarray([len(one) for one in features], dtype=np.int64),
        "positions": _flat([one.positions for one in features], np.int32),
        "position_counts": np.asarray([len(one.positions) for one in features], dtype=np.int64),
        "targets": _flat(numbers, np.int64),
        "target_counts": np.asarray([len(one) for one in numbers], dtype=np.int64),
        "target_kinds": np.asarray(kinds, dtype=np.uint8),
        "has_rest": np.asarray(has_rest, dtype=np.bool_),
        "examples": np.asarray([one.example for one in features], dtype=np.int64),
        "windows": np.asarray([one.window for one in features], dtype=np.int64),
    }
    return {
        _NUMBERS: save(tensors),
        _REST: "\n".join([json.dumps({"key": key, "too_long": encoded.too_long}), *rest]).encode(),
    }


def _unpack(files: dict[str, bytes], key: str) -> Encoded:
    head, *lines = files[_REST].decode().split("\n")
    about = json.loads(head)
    if about["key"] != key:
        raise ValueError(f"it belongs to the key {about['key']}")
    tensors = load(files[_NUMBERS])
    rest = iter(lines)
    features = []
    for number, (ids, positions, targets) in enumerate(
        zip(
            _parts(tensors["input_ids"], tensors["input_lengths"]),
            _parts(tensors["positions"], tensors["position_counts"]),
            _parts(tensors["targets"], tensors["target_counts"]),
            strict=True,
        )
    ):
        more = json.loads(next(rest)) if tensors["has_rest"][number] else {"target": None, "note": {}}
        kind = int(tensors["target_kinds"][number])
        features.append(
            Features(
                ids,
                target=_target(kind, targets, more["target"]),
                positions=positions,
                note=more["note"],
                example=int(tensors["examples"][number]),
                window=int(tensors["windows"][number]),
            )
        )
    return Encoded(features, about["too_long"])


def _kind(target: Any) -> int:
    if type(target) is int:
        return _AS_NUMBER if abs(target) < 2**63 else _AS_JSON
    whole = isinstance(target, list) and all(type(value) is int and abs(value) < 2**63 for value in target)
    return _AS_LIST if whole else _AS_JSON


def _numbers(target: Any, kind: int) -> list[int]:
    return target if kind == _AS_LIST else [target] if kind == _AS_NUMBER else []


def _target(kind: int, numbers: NDArray[Any], other: Any) -> Any:
    return other if kind == _AS_JSON else int(numbers[0]) if kind == _AS_NUMBER else numbers.tolist()


def _flat(parts: Sequence[Any], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.asarray(part, dtype=dtype) for part in parts]) if parts else np.zeros(0, dtype=dtype)


def _parts(flat: NDArray[Any], counts: NDArray[Any]) -> list[NDArray[Any]]:
    return np.split(flat, np.cumsum(counts)[:-1]) if len(counts) else []
