"""What a summary must be better than: the beginning of the document."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median
from typing import Any, ClassVar

import regex

from vertebra.tasks.baseline import Baseline
from vertebra.tasks.task import Row
from vertebra.tasks.words import is_cjk
from vertebra_summarization.metrics import RougeL, texts

_SENTENCE = regex.compile(r"^.*?(?:[.!?…](?=\s)|[。！？]|\n|$)", regex.DOTALL)
LENGTHS = (4, 8, 12, 16, 24, 32, 48)
"""Words at which the beginning may be cut, besides the usual length of a summary."""


class Lead(Baseline):
    """The first sentence, which often says the most, cut where that agreed best with the validation summaries.

    Cuts that are tried are the median length of the training summaries and a few round numbers.
    """

    name: ClassVar[str] = "lead sentence"
    summary: ClassVar[str] = "the document's first sentence, cut at the number of words that is best on validation"

    limit = 12

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        """Choose where to cut; without validation rows, at the median length of the training summaries."""
        usual = round(median(len(units(texts(row["summary"])[0])) for row in train))
        if not valid:
            self.limit = usual
            return
        rouge = RougeL.for_task(self.task)

        def score(limit: int) -> float:
            return mean(rouge.value(lead(row["document"], limit), self.task.reference(row)) for row in valid)

        self.limit = max(sorted({usual, *LENGTHS}), key=score)

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """Return the beginning of each document."""
        return [lead(row["document"], self.limit) for row in rows]


def lead(document: str, limit: int) -> str:
    """Return the first sentence of a document, at most so many words of it."""
    found = _SENTENCE.match(document.strip())
    return "".join(units(found.group() if found else document)[:limit]).strip()


def units(text: str) -> list[str]:
    """Return words, each with the space before it; a Chinese or Japanese character is one."""
    pieces: list[str] = regex.findall(r"\s*\S+", text)
    found: list[str] = []
    for piece in pieces:
        word = ""
        for character in piece:
            if is_cjk(character):
                found += [word, character] if word else [character]
                word = ""
            else:
                word += character
        if word:
            found.append(word)
    return found
