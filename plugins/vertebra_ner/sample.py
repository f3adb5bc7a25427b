"""A small synthetic data set: English sentences about people, places and organisations that do not exist.

Names are made of syllables. They can be told by what stands around them (`Mr X`, `in X`, `X Ltd`) and now and then by
how they end, but not by heart: most names in validation and test do not stand in training, and a name may be a person's
in one sentence and a place's in the next.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vertebra.config.schema import DataConfig, Positive, Strict
from vertebra.data.options import reader_options

Sentence = dict[str, list[str]]

UNSEEN_NAMES = 0.8
"""The share of names in validation and test that come from stems which training does not have."""
ENDINGS = 0.5
"""The share of names that end as their type often does."""

TEMPLATES = """
Mr {PER} visited {LOC} on {DAY} .
Mrs {PER} lives in {LOC} with two children .
President {PER} met Prime Minister {PER} in {LOC} .
" We lost {N} percent , " said {PER} , who runs {ORG} .
{PER} , the chairman of {ORG} , resigned on {DAY} .
{PER} told reporters in {LOC} that talks would go on .
Police in {LOC} arrested {PER} after the match .
{PER} was born in {LOC} in {N} .
The writer {PER} died at the age of {N} .
A spokesman for {ORG} declined to comment .
Shares of {ORG} fell {N} percent on {DAY} .
{ORG} said it would buy {ORG} for {N} million dollars .
{ORG} , based in {LOC} , hired {N} workers .
Analysts expect {ORG} to report a loss on {DAY} .
{ORG} beat {ORG} {N} to {N} .
The {MISC} government sent troops to {LOC} .
The {MISC} team won the {CUP} on {DAY} .
Two {MISC} tourists were hurt near {LOC} .
{MISC} officials met {PER} on {DAY} .
She speaks {MISC} and a little {MISC} .
{PER} lost the final of the {CUP} to {PER} .
Heavy rain fell over {LOC} and {LOC} on {DAY} .
The road from {LOC} to {LOC} is closed .
The mayor of {LOC} thanked {PER} .
{LOC} , {DAY} : exports from {LOC} rose {N} percent .
Trade fell by {N} percent on {DAY} , officials said .
Nobody was hurt and the trains run again .
""".strip().splitlines()

COMMON_ENDINGS = {
    "PER": ("son", "ez", "ovic", "elli"),
    "LOC": ("ton", "burg", "ville", "stad"),
    "ORG": ("corp", "tech", "soft", "bank"),
    "MISC": ("ish", "ese", "ian", "ic"),
}
COMPANY_WORDS = ("Ltd", "Group", "Bank", "Motors", "United", "Airlines")
CUP_WORDS = ("Open", "Cup", "Masters", "Trophy")
FIRST_NAMES = ("Anna", "Peter", "Maria", "David", "Laura", "Ivan", "Nina", "Paul", "Clara", "Omar", "Eva", "Jan")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class SampleOptions(Strict):
    """What `data.options` may set: the seed, and how many sentences each split has."""

    seed: int = 1
    train: Positive = 800
    valid: Positive = 120
    test: Positive = 120


def read(config: DataConfig) -> dict[str, list[dict[str, Any]]]:
    """Return the sentences of train, valid and test, the same ones for the same options."""
    options = reader_options(SampleOptions, config)
    rng = random.Random(options.seed)
    stems = _stems(rng, 2000)
    seen, held_out = stems[:1000], {"valid": stems[1000:1500], "test": stems[1500:]}

    def unseen(split: str) -> Callable[[], str]:
        return lambda: rng.choice(held_out[split] if rng.random() < UNSEEN_NAMES else seen)

    taken: set[str] = set()
    return {
        "train": _sentences(rng, options.train, lambda: rng.choice(seen), taken),
        "valid": _sentences(rng, options.valid, unseen("valid"), taken),
        "test": _sentences(rng, options.test, unseen("test"), taken),
    }


def _stems(rng: random.Random, count: int) -> list[str]:
    """Return different made-up words of one to three syllables."""
    stems: dict[str, None] = {}
    while len(stems) < count:
        syllables = [
            rng.choice("bdfghjklmnprstvwz") + rng.choice(("a", "e", "i", "o", "u", "ai", "ou")) + rng.choice(" lmnrst")
            for _ in range(rng.randint(1, 3))
        ]
        stem = "".join(syllables).replace(" ", "")
        if len(stem) > 2:
            stems[stem] = None
    return list(stems)


def _sentences(rng: random.Random, count: int, stem: Callable[[], str], taken: set[str]) -> list[Sentence]:
    """Return sentences that are not among the `taken` ones, to which they are added."""
    sentences: list[Sentence] = []
    while len(sentences) < count:
        sentence = _sentence(rng, stem)
        text = " ".join(sentence["tokens"])
        if text not in taken:
            taken.add(text)
            sentences.append(sentence)
    return sentences


def _sentence(rng: random.Random, stem: Callable[[], str]) -> Sentence:
    """Fill one template; `stem` gives the next stem of a name."""
    tokens: list[str] = []
    tags: list[str] = []
    for part in rng.choice(TEMPLATES).split():
        words, kind = _fill(rng, part, stem)
        tokens += words
        tags += [f"{'I' if number else 'B'}-{kind}" if kind else "O" for number in range(len(words))]
    return {"tokens": tokens, "tags": tags}


def _fill(rng: random.Random, part: str, stem: Callable[[], str]) -> tuple[list[str], str]:
    """Return the words for one part of a template, and the type of entity that they are, if any."""

    def name(kind: str) -> str:
        ending = rng.choice(COMMON_ENDINGS[kind]) if rng.random() < ENDINGS else ""
        return (stem() + ending).capitalize()

    match part:
        case "{PER}":
            return [*rng.choice(([], [rng.choice(FIRST_NAMES)])), name("PER")], "PER"
        case "{LOC}":
            return [*rng.choice(([], [], ["New"], ["South"])), name("LOC")], "LOC"
        case "{ORG}":
            return [name("ORG"), *rng.choice(([], [rng.choice(COMPANY_WORDS)]))], "ORG"
        case "{MISC}":
            return [stem().capitalize() + rng.choice(COMMON_ENDINGS["MISC"])], "MISC"
        case "{CUP}":
            return [name("LOC"), rng.choice(CUP_WORDS)], "MISC"
        case "{N}":
            return [str(rng.randint(2, 99))], ""
        case "{DAY}":
            return [rng.choice(DAYS)], ""
    return [part], ""
