"""The simplest baseline of token classification: the most frequent label of each word."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from vertebra.tasks.baseline import Baseline

if TYPE_CHECKING:
    from vertebra.tasks.task import Row
    from vertebra.tasks.token_classification import TokenClassification


class MostFrequentTag(Baseline):
    """Gives each word the label that it has most often in training, and a new word the most frequent label of all."""

    name: ClassVar[str] = "most frequent tag"
    summary: ClassVar[str] = (
        "each word gets the label that it has most often in training, a new word the most frequent label of all"
    )

    task: TokenClassification

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        """Count the labels of each word."""
        by_word: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for row in train:
            for word, tag in zip(row["tokens"], self.task.tags(row), strict=True):
                by_word[word][tag] += 1
        self.known = {word: most_frequent(tags) for word, tags in by_word.items()}
        self.unknown = most_frequent(sum(by_word.values(), Counter()))

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """Look every word up."""
        return [self.task.combine(row, [self.tags(row["tokens"])]) for row in rows]

    def tags(self, words: Iterable[str]) -> list[str]:
        """Return the label of each word."""
        return [self.known.get(word, self.unknown) for word in words]


def most_frequent(tags: Counter[str]) -> str:
    """Return the most frequent label, the first by alphabet where several are."""
    return min(tags, key=lambda tag: (-tags[tag], tag))
