"""How well a predicted answer agrees with the right ones: exact match and F1.

By words, the numbers are those of the official script of SQuAD 2.0 (and of 1.1, where every question has an answer): case,
punctuation, the articles a, an, the and white space do not count; F1 is over bags of words; of several right answers the best
one counts. By characters, they follow the script of CMRC 2018 (Cui et al., EMNLP 2019): case and punctuation do not
count, a Chinese or Japanese character is a unit and so is any other word, and what two answers share is their longest
common run of units.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from vertebra.tasks.words import is_cjk

ScoreBy = Literal["auto", "words", "characters"]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def exact_match(text: str, answers: Sequence[str], score_by: ScoreBy = "auto") -> float:
    """Return 1.0 where a text equals one of the answers; without any answer, where it is empty."""
    normalise = normalised_characters if by_characters(answers, score_by) else normalised_words
    return float(any(normalise(text) == normalise(answer) for answer in _scored(answers, normalise)))


def f1(text: str, answers: Sequence[str], score_by: ScoreBy = "auto") -> float:
    """Return the best F1 of a text with one of the answers; without any answer, 1.0 where it is empty and else 0.0."""
    if by_characters(answers, score_by):
        units = split_units(text)
        pairs = [(units, split_units(answer)) for answer in _scored(answers, normalised_characters)]
        return max(_f1(longest_common_run(*pair), *pair) for pair in pairs)
    words = normalised_words(text).split()
    pairs = [(words, normalised_words(answer).split()) for answer in _scored(answers, normalised_words)]
    return max(_f1((Counter(one) & Counter(other)).total(), one, other) for one, other in pairs)


def by_characters(answers: Sequence[str], score_by: ScoreBy = "auto") -> bool:
    """Whether characters are compared: as set, else where an answer has a Chinese or Japanese one."""
    if score_by != "auto":
        return score_by == "characters"
    return any(is_cjk(character) for answer in answers for character in answer)


@lru_cache(maxsize=65536)
def normalised_words(text: str) -> str:
    """Return a text as SQuAD's script compares it: lower case, no ASCII punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


@lru_cache(maxsize=65536)
def normalised_characters(text: str) -> str:
    """Return a text as CMRC's script compares it: lower case, without white space at its ends and any punctuation."""
    kept = (c for c in text.lower() if not unicodedata.category(c).startswith(("P", "S")))
    return "".join(kept).strip()


def split_units(text: str) -> list[str]:
    """Return the units of a text: each Chinese or Japanese character, and each other word."""
    spaced = "".join(f" {c} " if is_cjk(c) else c for c in normalised_characters(text))
    return spaced.split()


def longest_common_run(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest run of units that stands in both."""
    longest = 0
    before = [0] * (len(other) + 1)
    for unit in one:
        lengths = [0]
        lengths += [before[place] + 1 if unit == match else 0 for place, match in enumerate(other)]
        longest = max(longest, *lengths)
        before = lengths
    return longest


def _scored(answers: Sequence[str], normalise: object) -> Sequence[str]:
    """Return the answers of which anything is left to compare; the empty one where there is none."""
    assert callable(normalise)
    return [answer for answer in answers if normalise(answer)] or [""]


def _f1(shared: int, one: Sequence[str], other: Sequence[str]) -> float:
    if not one or not other:
        return float(len(one) == len(other))
    return 2 * shared / (len(one) + len(other))
