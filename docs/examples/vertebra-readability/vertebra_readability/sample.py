"""Synthetic texts of invented words: the fewer syllables a word has, the easier the text reads."""

from random import Random

SYLLABLES = [consonant + vowel for consonant in "bdfklmnpst" for vowel in "aeiou"]
ROWS = {"train": 1500, "valid": 150, "test": 300}


def read(data):
    random = Random(1)
    return {split: [row(random) for _ in range(number)] for split, number in ROWS.items()}


def row(random):
    hardness = random.random()
    lengths = [1 + (random.random() < hardness) * random.randint(1, 3) for _ in range(random.randint(6, 16))]
    words = ("".join(random.choices(SYLLABLES, k=length)) for length in lengths)
    return {"text": " ".join(words), "score": 4 - sum(lengths) / len(lengths)}
