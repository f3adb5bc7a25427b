"""What the synthetic samples share: their options, and rows that no other row repeats."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vertebra.config.schema import DataConfig, Positive, Strict
from vertebra.data.options import reader_options

Row = dict[str, Any]


@dataclass(frozen=True)
class SampleOptions(Strict):
    """What `data.options` may set: the seed, and how many rows each split has."""

    seed: int = 1
    train: Positive = 3000
    valid: Positive = 200
    test: Positive = 200


def make_splits(config: DataConfig, make_row: Callable[[random.Random], Row]) -> dict[str, list[Row]]:
    """Return the rows of train, valid and test, no text twice, the same ones for the same options."""
    options = reader_options(SampleOptions, config)
    rng = random.Random(options.seed)
    taken: set[str] = set()

    def rows(count: int) -> list[Row]:
        made: list[Row] = []
        while len(made) < count:
            row = make_row(rng)
            if row["text"] not in taken:
                taken.add(row["text"])
                made.append(row)
        return made

    return {"train": rows(options.train), "valid": rows(options.valid), "test": rows(options.test)}
