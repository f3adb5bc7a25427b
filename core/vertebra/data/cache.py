"""Encoded features on disk, under a key of everything that they were made from.

An entry has whole numbers in `features.safetensors`, and all other targets and notes in `rest.jsonl`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from vertebra.data.entries import Entries, cache_root
from vertebra.tasks.features import Features

logger = logging.getLogger(__name__)

FORMAT = 2
_NUMBERS, _REST = "features.safetensors", "rest.jsonl"

# How a target is kept: in the JSON lines, or as whole numbers among the tensors: one, or a list.
_AS_JSON, _AS_NUMBER, _AS_LIST = 0, 1, 2


@dataclass(frozen=True)
class Encoded:
    """The features of a split."""

    features: Sequence[Features]
    too_long: int
    """How many rows were over the context."""
    examples: Sequence[Sequence[Features]] | None = None
    """The features of each row, where they are made when they are asked for."""


class FeatureCache:
    """Encoded splits by key, in a folder that several processes may share."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or cache_root()) / "features"
        self._entries = Entries(self.root, FORMAT, (_NUMBERS, _REST))

    def get(self, key: str) -> Encoded | None:
        """Return what was put under a key, or None where nothing whole is there."""
        try:
            return _read(self._entries.find(key))
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever is wrong with the entry, it can be made anew
            logger.warning("Cached features are made anew: '%s' cannot be used: %s", self.root / key, error)
            return None

    def put(self, key: str, encoded: Encoded) -> None:
        """Keep an encoded split; where the folder cannot be written, say so and go on."""
        try:
            self._entries.add(key, lambda folder: _write(folder, encoded))
        except OSError as error:
            logger.warning("Cannot keep encoded features in '%s': %s. Set VERTEBRA_CACHE=FOLDER.", self.root, error)


# --- features as files


def _write(folder: Path, encoded: Encoded) -> None:
    features = encoded.features
    kinds = [_kind(one.target) for one in features]
    numbers = [_numbers(one.target, kind) for one, kind in zip(features, kinds, strict=True)]
    has_rest = [kind == _AS_JSON or bool(one.note or one.attention) for one, kind in zip(features, kinds, strict=True)]
    rest = [
        json.dumps({"target": one.target if kind == _AS_JSON else None, "note": one.note, "attention": one.attention})
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
    (folder / _NUMBERS).write_bytes(save(tensors))
    (folder / _REST).write_bytes("\n".join([json.dumps({"too_long": encoded.too_long}), *rest]).encode())


def _read(folder: Path) -> Encoded:
    head, *lines = (folder / _REST).read_bytes().decode().split("\n")
    about = json.loads(head)
    tensors = load((folder / _NUMBERS).read_bytes())
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
                attention=more.get("attention"),
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
