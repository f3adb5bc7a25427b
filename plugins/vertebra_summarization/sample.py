"""A small synthetic data set: office notes that do not matter, but for one sentence, and what that sentence says in short.

The sentence that matters stands anywhere in the note. Others name days, teams and people as well, so that words alone do not
tell what the summary is, and where in the note it stands does not either.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from vertebra.config.schema import DataConfig, Positive, Strict
from vertebra.data.options import reader_options

TEAMS = [
    "sales",
    "design",
    "payroll",
    "garden",
    "legal",
    "press",
    "kitchen",
    "data",
    "school",
    "travel",
    "music",
    "night",
]
NAMES = ["Anna", "Peter", "Maria", "David", "Laura", "Ivan", "Nina", "Paul", "Clara", "Omar", "Eva", "Jan"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]

KEYS = (
    ("The {team} meeting on {day} is cancelled because {name} is ill.", "{Team} meeting on {day} cancelled"),
    ("We had to move the {team} meeting from {other} to {day}.", "{Team} meeting moved to {day}"),
    ("{name} must have the report of the {team} team by {day}.", "{Team} report due on {day}"),
    ("Please welcome {name}, who joins the {team} team on {day}.", "{name} joins the {team} team"),
    ("From {day} on, {name} will be the head of the {team} team.", "{name} to lead the {team} team"),
    ("The {team} room stays closed until {day}.", "{Team} room closed until {day}"),
)
FILLERS = (
    "I hope you are all well.",
    "{name} found a green umbrella in the {team} room.",
    "Lunch on {day} was very good.",
    "The lift works again since {day}.",
    "{name} from the {team} team says hello.",
    "Thank you for the cake.",
    "It rained all {day}.",
    "The {team} team has a new plant.",
)


@dataclass(frozen=True)
class SampleOptions(Strict):
    """What `data.options` may set: the seed, and how many notes each split has."""

    seed: int = 1
    train: Positive = 1500
    valid: Positive = 120
    test: Positive = 120


def read(config: DataConfig) -> dict[str, list[dict[str, Any]]]:
    """Return the notes of train, valid and test, the same ones for the same options."""
    options = reader_options(SampleOptions, config)
    rng = random.Random(options.seed)
    taken: set[str] = set()
    return {
        split: _notes(rng, count, taken)
        for split, count in (("train", options.train), ("valid", options.valid), ("test", options.test))
    }


def _notes(rng: random.Random, count: int, taken: set[str]) -> list[dict[str, Any]]:
    """Return notes that are not among the `taken` ones, to which they are added."""
    notes: list[dict[str, Any]] = []
    while len(notes) < count:
        note = _note(rng)
        if note["document"] not in taken:
            taken.add(note["document"])
            notes.append(note)
    return notes


def _note(rng: random.Random) -> dict[str, Any]:
    key, summary = rng.choice(KEYS)
    words = _words(rng)
    sentences = [filler.format(**_words(rng)) for filler in rng.sample(FILLERS, rng.randint(1, 3))]
    sentences.insert(rng.randint(0, len(sentences)), key.format(**words))
    return {"document": " ".join(sentences), "summary": summary.format(**words)}


def _words(rng: random.Random) -> dict[str, str]:
    day, other = rng.sample(DAYS, 2)
    team = rng.choice(TEAMS)
    return {"team": team, "Team": team.capitalize(), "name": rng.choice(NAMES), "day": day, "other": other}
