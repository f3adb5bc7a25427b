"""Words, how rare they are, and which of them two texts share."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vertebra.tasks.words import is_cjk

_WORD = re.compile(r"\w+|[^\w\s]")

Span = tuple[int, int]


def word_spans(text: str) -> list[Span]:
    """Return where the words, the marks and the Chinese and Japanese characters of a text are."""
    spans: list[Span] = []
    for match in _WORD.finditer(text):
        start, end = match.span()
        if any(map(is_cjk, match[0])):
            spans += [(place, place + 1) for place in range(start, end)]
        else:
            spans.append((start, end))
    return spans


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, marks included."""
    return [text[start:end].lower() for start, end in word_spans(text)]


class Rarity:
    """The inverse document frequency of words: ln(1 + texts / texts that have the word); marks have none."""

    def __init__(self, texts: Iterable[str]) -> None:
        documents = [set(words_of(text)) for text in texts]
        self.n_texts = len(documents)
        self.counts = Counter(word for words in documents for word in words)

    def state(self) -> dict[str, Any]:
        """Return what was counted, as JSON can hold it, without the words of a single text: they are as rare as new ones."""
        return {"texts": self.n_texts, "counts": {word: count for word, count in self.counts.items() if count > 1}}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Rarity:
        """Return one that knows what `state` returned."""
        made = cls(())
        made.n_texts = int(state["texts"])
        made.counts = Counter({word: int(count) for word, count in state["counts"].items()})
        return made

    def __getitem__(self, word: str) -> float:
        if not word[0].isalnum():
            return 0.0
        return math.log1p(self.n_texts / max(1, self.counts[word]))

    def is_common(self, word: str) -> bool:
        """Whether a word is a mark, or stands in over ten texts and every fifth: no answer begins or ends with it."""
        return not word[0].isalnum() or self.counts[word] > max(10, self.n_texts / 5)


Shared = tuple[float, float]
"""How many words that are not common, and how rare all shared words are together."""


def shared_with(query: str, candidates: Sequence[str], rarity: Rarity) -> list[Shared]:
    """Return what each candidate shares with the query; a word counts once, however often it stands there."""
    asked = {word: rarity[word] for word in words_of(query)}
    found = [asked.keys() & set(words_of(candidate)) for candidate in candidates]
    # A set has no order, and a plain sum of floats depends on it: equal scores would differ, in each process otherwise.
    return [
        (float(sum(not rarity.is_common(word) for word in words)), math.fsum(asked[word] for word in words))
        for words in found
    ]
