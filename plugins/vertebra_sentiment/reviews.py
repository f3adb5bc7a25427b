"""A small synthetic data set: English reviews of one thing or two, each of them good or bad.

Counting words does not go far. Negation turns a word of praise or blame round, often with another word between them; and
where two things are judged, `but` and `although` say which one decides.
"""

from __future__ import annotations

import random

from vertebra.config.schema import DataConfig
from vertebra_sentiment.sample import Row, make_splits

THINGS = ("acting", "plot", "music", "room", "food", "service", "bed", "soup", "price", "screen", "sound", "box")
PRAISE = ("good", "great", "lovely", "solid", "fresh", "clever")
BLAME = ("bad", "awful", "dull", "weak", "noisy", "poor")
PLAIN = ("was", "was", "felt", "seemed")
NEGATED = ("was not", "was never", "did not feel")
BETWEEN = ("", "really", "very", "that")
OPENINGS = ("", "", "to be honest ,", "in the end ,")
CLOSINGS = ("", "", "for us", "this time")

CONTRASTS = (
    "{minor} , but {major}",
    "although {minor} , {major}",
    "{major} , although {minor}",
)
"""How two judgements are put together; the major one decides."""


def read(config: DataConfig) -> dict[str, list[Row]]:
    """Return the reviews of train, valid and test, the same ones for the same options."""
    return make_splits(config, review)


def review(rng: random.Random) -> Row:
    """Return one review; both labels are equally likely."""
    good = rng.random() < 0.5
    if rng.random() < 0.5:
        text = judgement(rng, good)
    else:
        # What is beside the point says the opposite, or now and then the same.
        text = rng.choice(CONTRASTS).format(
            major=judgement(rng, good), minor=judgement(rng, good ^ (rng.random() < 0.7))
        )
    words = [rng.choice(OPENINGS), text, rng.choice(CLOSINGS), "."]
    return {"text": " ".join(filter(None, words)), "label": "positive" if good else "negative"}


def judgement(rng: random.Random, good: bool) -> str:
    """Return a clause that is good or bad of something, by its word or by the negation of the opposite."""
    negated = rng.random() < 0.35
    word = rng.choice(PRAISE if good ^ negated else BLAME)
    verb = rng.choice(NEGATED if negated else PLAIN)
    return " ".join(filter(None, ["the", rng.choice(THINGS), verb, rng.choice(BETWEEN), word]))
