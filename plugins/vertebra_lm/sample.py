"""A small synthetic corpus: stories about who owns what, in which what comes later can be told from what came before."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from vertebra.config.schema import DataConfig, Positive, Strict
from vertebra.data.options import reader_options

NAMES = ("Anna", "Peter", "Maria", "David", "Laura", "Ivan", "Nina", "Paul", "Clara", "Omar", "Eva", "Jan")
COLOURS = ("red", "blue", "green", "black", "white", "yellow", "brown", "grey")
THINGS = ("bicycle", "umbrella", "house", "coat", "kite", "boat", "cup", "piano", "lamp", "ladder", "guitar", "clock")
PLACES = ("market", "harbour", "school", "garden", "station", "museum", "library", "mill")
VERBS = ("found", "bought", "sold", "painted", "lost", "drew", "repaired", "borrowed")


@dataclass(frozen=True)
class SampleOptions(Strict):
    """What `data.options` may set: the seed, and how many stories each split has."""

    seed: int = 1
    train: Positive = 1500
    valid: Positive = 100
    test: Positive = 100


def read(config: DataConfig) -> dict[str, list[dict[str, Any]]]:
    """Return the stories of train, valid and test, the same ones for the same options."""
    options = reader_options(SampleOptions, config)
    rng = random.Random(options.seed)
    return {
        split: [{"text": _story(rng)} for _ in range(getattr(options, split))] for split in ("train", "valid", "test")
    }


def _story(rng: random.Random) -> str:
    """Return some sentences; the last ones say again, in other words, what the first ones said."""
    people = rng.sample(NAMES, 3)
    owned = {name: (rng.choice(COLOURS), thing) for name, thing in zip(people, rng.sample(THINGS, 3), strict=True)}
    place = rng.choice(PLACES)
    first = [f"{name} {rng.choice(VERBS)} a {colour} {thing}." for name, (colour, thing) in owned.items()]
    met = f"{people[0]} and {people[1]} met {people[2]} at the {place} on day {rng.randint(2, 30)}."
    last = [f"The {thing} of {name} is {colour}." for name, (colour, thing) in owned.items()]
    rng.shuffle(last)
    return " ".join([*first, met, *last, f"They all went home from the {place}."])
