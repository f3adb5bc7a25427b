"""Two small synthetic data sets: facts about people, firms and places that do not exist, and questions about them.

Names are made of syllables, and those of validation and test do not stand in training. A fact is written in one of
several ways, seldom with the words of the question, so counting shared words does not find it; a name alone does not
tell it either, for a text has several facts about the same one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vertebra.config.schema import DataConfig, Fraction, Positive, Strict
from vertebra.data.options import reader_options

Row = dict[str, Any]

SUBJECT, VALUE = "{X}", "{V}"

FACTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "place": (
        ("{X} was born in {V} .", "{X} first saw the light of day in {V} .", "The birthplace of {X} is {V} ."),
        ("Where was {X} born ?", "In which town was {X} born ?"),
    ),
    "firm": (
        ("{X} works for {V} .", "{V} pays the wages of {X} .", "{X} has a job at {V} ."),
        ("Who employs {X} ?", "Which company employs {X} ?"),
    ),
    "year": (
        ("{X} retired in {V} .", "Since {V} , {X} has been a pensioner .", "The last working year of {X} was {V} ."),
        ("When did {X} stop working ?", "In which year did {X} stop working ?"),
    ),
    "person": (
        ("{X} is married to {V} .", "{V} is the spouse of {X} .", "{X} took {V} to the altar ."),
        ("Who is the partner of {X} ?", "Whom did {X} wed ?"),
    ),
    "number": (
        ("{X} owns {V} horses .", "{V} horses belong to {X} .", "There are {V} horses on the farm of {X} ."),
        ("How many animals does {X} keep ?", "How many animals does {X} have ?"),
    ),
}
CANDIDATES = 3


@dataclass(frozen=True)
class SampleOptions(Strict):
    """What `data.options` may set: the seed, and how many questions each split has."""

    seed: int = 1
    train: Positive = 1000
    valid: Positive = 150
    test: Positive = 150


@dataclass(frozen=True)
class ContextOptions(SampleOptions):
    """The same for contexts, and the share of questions that have no answer in theirs."""

    train: Positive = 1200
    unanswerable: Fraction = 0.2


def read_contexts(config: DataConfig) -> dict[str, list[Row]]:
    """Return contexts of three or four facts, each with a question, the same ones for the same options."""
    options = reader_options(ContextOptions, config)
    return {
        split: [_context(rng, stems, rng.random() < options.unanswerable) for _ in range(size)]
        for split, size, rng, stems in _splits(options)
    }


def read_candidates(config: DataConfig) -> dict[str, list[Row]]:
    """Return questions, each with one right sentence among three about the same person."""
    options = reader_options(SampleOptions, config)
    return {split: [_choice(rng, stems) for _ in range(size)] for split, size, rng, stems in _splits(options)}


def _splits(options: SampleOptions) -> Iterator[tuple[str, int, random.Random, list[str]]]:
    """Yield each split with its size, a source of randomness and the stems of its names."""
    rng = random.Random(options.seed)
    stems = _stems(rng, 900)
    for number, (split, size) in enumerate(
        (("train", options.train), ("valid", options.valid), ("test", options.test))
    ):
        yield split, size, rng, stems[number * 300 : (number + 1) * 300]


def _stems(rng: random.Random, count: int) -> list[str]:
    """Return different made-up words of two syllables."""
    stems: dict[str, None] = {}
    while len(stems) < count:
        syllables = [rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") + rng.choice(" lmnrs") for _ in range(2)]
        stems["".join(syllables).replace(" ", "").capitalize()] = None
    return list(stems)


def _value(rng: random.Random, kind: str, stems: list[str]) -> str:
    match kind:
        case "place":
            return rng.choice(stems) + rng.choice(("ton", "ville", "burg"))
        case "firm":
            return f"{rng.choice(stems)} {rng.choice(('Motors', 'Bank', 'Group'))}"
        case "year":
            return str(rng.randint(1950, 2020))
        case "number":
            return str(rng.randint(2, 40))
    return f"{rng.choice(('Anna', 'Peter', 'Maria', 'David'))} {rng.choice(stems)}"


def _sentence(rng: random.Random, kind: str, subject: str, value: str) -> tuple[str, int]:
    """Return a fact as a sentence, and the place of the value in it."""
    form = rng.choice(FACTS[kind][0]).replace(SUBJECT, subject)
    return form.replace(VALUE, value), form.index(VALUE)


def _question(rng: random.Random, kind: str, subject: str) -> str:
    return rng.choice(FACTS[kind][1]).replace(SUBJECT, subject)


def _context(rng: random.Random, stems: list[str], unanswerable: bool) -> Row:
    subject = rng.choice(stems)
    kinds = rng.sample(sorted(FACTS), rng.randint(3, 4))
    asked = rng.choice([kind for kind in FACTS if kind not in kinds]) if unanswerable else rng.choice(kinds)
    context, answers = "", []
    for kind in kinds:
        value = _value(rng, kind, stems)
        sentence, place = _sentence(rng, kind, subject, value)
        if kind == asked:
            answers.append({"text": value, "start": len(context) + place})
        context += f"{sentence} "
    return {"question": _question(rng, asked, subject), "context": context.strip(), "answers": answers}


def _choice(rng: random.Random, stems: list[str]) -> Row:
    subject = rng.choice(stems)
    kinds = rng.sample(sorted(FACTS), CANDIDATES)
    asked = rng.choice(kinds)
    return {
        "query": _question(rng, asked, subject),
        "candidates": [_sentence(rng, kind, subject, _value(rng, kind, stems))[0] for kind in kinds],
        "labels": [int(kind == asked) for kind in kinds],
    }
