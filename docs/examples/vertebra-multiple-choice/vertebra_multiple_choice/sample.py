"""Synthetic sentences that lack their verb: when it happens and how many do it say its ending; every word is made up anew."""

from random import Random

SYLLABLES = [consonant + vowel for consonant in "bdfklmnpst" for vowel in "aeiou"]
ROWS = {"train": 1000, "valid": 150, "test": 300}


def read(data):
    random = Random(1)
    return {split: [row(random) for _ in range(number)] for split, number in ROWS.items()}


def row(random):
    day, number, other = random.choice(["today", "yesterday"]), *random.choices(["every", "many"], k=2)
    one, two, verb = ("".join(random.choices(SYLLABLES, k=2)) for _ in range(3))
    ending = "ed" if day == "yesterday" else "es" if number == "every" else ""
    endings = random.sample(["ed", "es", ""], k=3)
    question, choices = f"{day} {number} {one} near {other} {two}", [verb + one for one in endings]
    return {"question": question, "choices": choices, "answer": endings.index(ending)}
