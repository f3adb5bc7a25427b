"""A small synthetic data set: requests to an assistant. Each names two things to do, and one of them is what is wanted.

Which one is wanted, only the words between and around them say: "do not X , Y instead", "Y rather than X".
"""

from __future__ import annotations

import random

from vertebra.config.schema import DataConfig
from vertebra_sentiment.sample import Row, make_splits

WAYS = {
    "book": ("book {thing}", "reserve {thing}", "get {thing} for me", "put {thing} in my name"),
    "cancel": ("cancel {thing}", "call off {thing}", "drop {thing}", "get rid of {thing}"),
    "move": ("move {thing} to {day}", "postpone {thing} until {day}", "change {thing} to {day}"),
    "ask": ("tell me about {thing}", "look up {thing}", "find out when {thing} begins"),
    "remind": ("remind me of {thing}", "set an alarm for {thing}", "send me a note before {thing}"),
    "share": ("send {thing} to {name}", "tell {name} about {thing}", "invite {name} to {thing}"),
}
THINGS = (
    *("the meeting", "a table", "the flight", "the dentist", "my lesson"),
    *("the concert", "a taxi", "the tour", "the room", "the call"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NAMES = ["Anna", "Peter", "Maria", "David", "Laura", "Ivan", "Nina", "Paul"]
FILLERS = ("simply", "quickly", "kindly", "already", "perhaps", "maybe", "today", "right away", "again", "once more")
"""What stands before each deed, so that no two neighbouring words tell which one is wanted."""
PATTERNS = (
    "do not {other} , {wanted} instead",
    "please {wanted} rather than {other}",
    "rather than {other} , could you {wanted}",
    "I wanted to {other} , but now please {wanted}",
    "{wanted} , and do not {other} yet",
    "no need to {other} , just {wanted}",
    "{wanted} . I will {other} myself",
    "{name} can {other} , so all you do is {wanted}",
)


def read(config: DataConfig) -> dict[str, list[Row]]:
    """Return the requests of train, valid and test, the same ones for the same options."""
    return make_splits(config, request)


def request(rng: random.Random) -> Row:
    """Return one request; all labels are equally likely, and so is what is named beside them."""
    wanted, other = rng.sample(sorted(WAYS), 2)
    pattern = rng.choice(PATTERNS)
    return {
        "text": pattern.format(wanted=deed(rng, wanted), other=deed(rng, other), name=rng.choice(NAMES)),
        "label": wanted,
    }


def deed(rng: random.Random, label: str) -> str:
    """Return one way to say what a label stands for."""
    way = f"{rng.choice(FILLERS)} {rng.choice(WAYS[label])}"
    return way.format(thing=rng.choice(THINGS), day=rng.choice(DAYS), name=rng.choice(NAMES))
