"""A small synthetic data set: English reviews of one or two sentences, each of them good or bad.

Words alone do not tell: every word of praise or blame stands as often in good reviews as in bad ones. Negation turns it
round, with one to three words between the two, and where two things are judged, the grammar says which one decides.
"""

from __future__ import annotations

import random

from vertebra.config.schema import DataConfig
from vertebra_sentiment.sample import Row, make_splits

THINGS = (
    *("acting", "plot", "ending", "music", "story", "script", "cast", "paint", "sound", "cover"),
    *("room", "food", "service", "staff", "bed", "breakfast", "soup", "coffee", "price", "delivery"),
    *("screen", "battery", "camera", "keyboard", "box", "handle", "lens", "fan", "engine", "seat"),
)
PRAISE = ("good", "great", "lovely", "superb", "charming", "solid", "pleasant", "excellent", "fresh", "clever")
BLAME = ("bad", "awful", "dull", "terrible", "boring", "weak", "noisy", "dreadful", "silly", "poor")
PLAIN = ("was", "seemed", "felt", "looked")
NEGATED = ("was not", "never seemed", "was never", "did not feel", "hardly looked", "was not once")
BETWEEN = ("", "", "really", "very", "at all", "all that", "in any way", "quite so")
OPENINGS = ("", "", "", "to be honest ,", "in the end ,", "as I said ,", "on Monday")
CLOSINGS = ("", "", "", "for us", "this time", "if you ask me", "on the whole")

CONTRASTS = (
    "{minor} , but {major}",
    "{minor} . still , {major}",
    "although {minor} , {major}",
    "even if {minor} , {major}",
    "{major} , although {minor}",
    "{major} , even if {minor}",
)
"""How two judgements are put together; the major one decides."""


def read(config: DataConfig) -> dict[str, list[Row]]:
    """Return the reviews of train, valid and test, the same ones for the same options."""
    return make_splits(config, review)


def review(rng: random.Random) -> Row:
    """Return one review; both labels are equally likely."""
    good = rng.random() < 0.5
    if rng.random() < 0.4:
        text = judgement(rng, good)
    else:
        # What is beside the point says the opposite, or now and then the same.
        text = rng.choice(CONTRASTS).format(
            major=judgement(rng, good), minor=judgement(rng, good ^ (rng.random() < 0.75))
        )
    words = [rng.choice(OPENINGS), text, rng.choice(CLOSINGS), "."]
    return {"text": " ".join(filter(None, words)), "label": "positive" if good else "negative"}


def judgement(rng: random.Random, good: bool) -> str:
    """Return a clause that is good or bad of something, by its word or by the negation of the opposite."""
    negated = rng.random() < 0.25
    word = rng.choice(PRAISE if good ^ negated else BLAME)
    verb = rng.choice(NEGATED if negated else PLAIN)
    return " ".join(filter(None, ["the", rng.choice(THINGS), verb, rng.choice(BETWEEN), word]))
