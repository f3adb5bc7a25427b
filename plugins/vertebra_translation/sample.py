"""A small synthetic data set: simple English sentences and their translation into a language that does not exist.

Its words are made of syllables. Nouns have one of two genders, which the article shows; adjectives stand behind their noun;
several things are marked at the noun; the verb stands at the end. So words alone, one by one, are no translation.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from vertebra.config.schema import DataConfig, Positive, Strict
from vertebra.data.options import reader_options

NOUNS = ["dog", "bird", "horse", "girl", "boy", "baker", "king", "cat", "fox", "teacher", "friend", "sailor"]
THINGS = ["apple", "book", "boat", "lamp", "drum", "key", "hat", "stone"]
ADJECTIVES = ["small", "old", "red", "quick", "happy", "green", "tired", "white"]
VERBS = ["sees", "wants", "finds", "paints", "carries", "likes", "hides", "sells"]
PLACES = ["garden", "house", "street", "forest", "school", "market"]
NUMBERS = ["two", "three", "five"]


@dataclass(frozen=True)
class SampleOptions(Strict):
    """What `data.options` may set: the seed, and how many pairs each split has."""

    seed: int = 1
    train: Positive = 1500
    valid: Positive = 120
    test: Positive = 120


def read(config: DataConfig) -> dict[str, list[dict[str, Any]]]:
    """Return the pairs of train, valid and test, the same ones for the same options."""
    options = reader_options(SampleOptions, config)
    rng = random.Random(options.seed)
    lexicon = _lexicon(rng)
    taken: set[str] = set()
    return {
        split: _pairs(rng, count, lexicon, taken)
        for split, count in (("train", options.train), ("valid", options.valid), ("test", options.test))
    }


def _lexicon(rng: random.Random) -> dict[str, str]:
    """Return a different made-up word for each English one."""
    words = [*NOUNS, *THINGS, *ADJECTIVES, *VERBS, *PLACES, *NUMBERS, "in"]
    made: dict[str, None] = {}
    while len(made) < len(words):
        made["".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(1, 2)))] = None
    return dict(zip(words, made, strict=True))


def _pairs(rng: random.Random, count: int, lexicon: dict[str, str], taken: set[str]) -> list[dict[str, Any]]:
    """Return pairs whose sources are not among the `taken` ones, to which they are added."""
    pairs: list[dict[str, Any]] = []
    while len(pairs) < count:
        pair = _pair(rng, lexicon)
        if pair["source"] not in taken:
            taken.add(pair["source"])
            pairs.append(pair)
    return pairs


def _pair(rng: random.Random, lexicon: dict[str, str]) -> dict[str, Any]:
    who, whom = _phrase(rng, lexicon, NOUNS), _phrase(rng, lexicon, THINGS, several=rng.random() < 0.4)
    verb = rng.choice(VERBS)
    source, target = [who[0], verb, whom[0]], [who[1], whom[1]]
    if rng.random() < 0.5:
        place = rng.choice(PLACES)
        source.append(f"in the {place}")
        target.insert(0, f"{_article(place)} {lexicon[place]} {lexicon['in']}")
    sentences = " ".join(source), " ".join([*target, lexicon[verb]])
    return dict(zip(("source", "target"), (f"{one.capitalize()}." for one in sentences), strict=True))


def _phrase(rng: random.Random, lexicon: dict[str, str], nouns: list[str], several: bool = False) -> tuple[str, str]:
    """Return a noun with what belongs to it, in both languages."""
    noun = rng.choice(nouns)
    adjectives = [rng.choice(ADJECTIVES)] if rng.random() < 0.5 else []
    behind = [lexicon[one] for one in adjectives]
    if several:
        number = rng.choice(NUMBERS)
        return " ".join([number, *adjectives, f"{noun}s"]), " ".join([lexicon[number], f"{lexicon[noun]}ren", *behind])
    return " ".join(["the", *adjectives, noun]), " ".join([_article(noun), lexicon[noun], *behind])


def _article(noun: str) -> str:
    """Return the article of a noun: its gender has nothing to do with its sound in the other language."""
    return "lo" if len(noun) % 2 else "ka"
