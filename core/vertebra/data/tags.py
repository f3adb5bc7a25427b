"""Schemes that mark spans by one tag a token: which one a data set uses, and its conversion to IOB2.

A span tag is `LETTER-TYPE`, and `O` stands outside of every span:

    iob1    I goes on or begins; B begins only where the token before belongs to a span of the same type
    iob2    B begins, I goes on (also called BIO)
    bioes   B begins, I goes on, E ends, S is a span of one token (BILOU, with L for E and U for S, is read alike)
    bmes    the same with M for I (W for S is read, too)
    plain   no such letters: each tag stands for itself, as in part-of-speech tagging
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum

from vertebra.errors import DataError

OUTSIDE = "O"


class Scheme(StrEnum):
    """How tags mark spans."""

    IOB1 = "iob1"
    IOB2 = "iob2"
    BIOES = "bioes"
    BMES = "bmes"
    PLAIN = "plain"


_LETTERS = {Scheme.IOB1: "BI", Scheme.IOB2: "BI", Scheme.BIOES: "BIESLU", Scheme.BMES: "BMESW"}
_ALL_LETTERS = frozenset("".join(_LETTERS.values()))
_BEGIN = frozenset("BSUW")
_END = frozenset("ESLUW")


def detect_scheme(tag_sequences: Iterable[Sequence[str]]) -> Scheme:
    """Return the scheme of a data set; give it all sequences of the training split, since a few prove nothing.

    The more frequent reading wins, so that a stray tag does not change the scheme: `to_iob2` then names that tag. Tags
    that are all `O` count as iob2.
    """
    letters: Counter[str] = Counter()
    other = begun_by_i = begun_by_b = 0
    for tags in tag_sequences:
        before = ""
        for tag in tags:
            letter, kind = _parts(tag)
            letters[letter] += 1
            other += not letter
            begun_by_i += letter == "I" and kind != before
            begun_by_b += letter == "B" and kind != before
            before = kind
    marked = sum(letters[letter] for letter in _ALL_LETTERS)
    if other > marked:
        return Scheme.PLAIN
    if any(letters[letter] for letter in "MESLUW"):
        return Scheme.BMES if letters["M"] + letters["W"] > letters["I"] + letters["L"] + letters["U"] else Scheme.BIOES
    return Scheme.IOB1 if begun_by_i > begun_by_b else Scheme.IOB2


def to_iob2(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """Return the tags of one sequence in IOB2; those of `plain` come back as they are.

    A span whose first letter is missing (I after O in iob2, E after O in bioes) begins where its type begins, as the
    CoNLL scorer reads it. A tag that the scheme does not have is a `DataError` with its place in the sequence.
    """
    if scheme is Scheme.PLAIN:
        return list(tags)
    allowed = _LETTERS[scheme]
    converted = []
    open_kind = ""
    for number, tag in enumerate(tags, start=1):
        if tag == OUTSIDE:
            converted.append(OUTSIDE)
            open_kind = ""
            continue
        letter, kind = _parts(tag)
        if not letter or letter not in allowed:
            raise DataError(f"Tag {tag!r} of token {number} is not of the scheme {_explain(scheme)}.")
        begins = letter in _BEGIN or kind != open_kind
        converted.append(f"B-{kind}" if begins else f"I-{kind}")
        open_kind = "" if letter in _END else kind
    return converted


def _parts(tag: str) -> tuple[str, str]:
    """Return (letter, type) of a span tag, (`O`, "") of `O`, and ("", "") of any other tag."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    letter, dash, kind = tag.partition("-")
    return (letter, kind) if dash and kind and letter in _ALL_LETTERS else ("", "")


def _explain(scheme: Scheme) -> str:
    return f"{scheme.value}, which the data follows: O, {', '.join(f'{letter}-TYPE' for letter in _LETTERS[scheme])}"
