"""Synthetic sentences of invented words: any of these may be a noun, a verb or an adjective, and its neighbours say which."""

from random import Random

KNOWN = {"DET": "the a every some", "AUX": "can will must", "ADP": "in near behind", "PUNCT": ". !"}
NOUNS = ["DET NOUN", "DET ADJ NOUN", "DET ADJ ADJ NOUN"]
SYLLABLES = [consonant + vowel for consonant in "bdfklmnpst" for vowel in "aeiou"]
ROWS = {"train": 1000, "valid": 150, "test": 300}


def read(data):
    random = Random(1)
    return {split: [row(random) for _ in range(number)] for split, number in ROWS.items()}


def row(random):
    subject, object_, place = random.choices(NOUNS, k=3)
    tags = f"{subject} AUX VERB {object_} {random.choice(['', f'ADP {place}'])} PUNCT".split()
    return {"tokens": [word(tag, random) for tag in tags], "tags": tags}


def word(tag, random):
    known = KNOWN.get(tag)
    return random.choice(known.split()) if known else "".join(random.choices(SYLLABLES, k=2))
