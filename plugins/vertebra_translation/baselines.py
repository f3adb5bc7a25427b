"""What a translation must be better than: no translation, and one word by word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vertebra.tasks.baseline import Baseline
from vertebra.tasks.task import Row
from vertebra.tasks.words import join_words, split_words

if TYPE_CHECKING:
    from vertebra_translation.task import Translation

ITERATIONS = 5
"""Of expectation maximisation; more change little."""


class PairBaseline(Baseline):
    """A baseline that translates one sentence after the other, in each direction."""

    task: Translation

    def translate(self, rows: Sequence[Row], one: Callable[[str, str], str]) -> list[Any]:
        """Return what `one` makes of the text of each row in a direction."""

        def of_row(row: Row) -> Any:
            made = {direction: one(self.task.sides(row, direction)[0], direction) for direction in self.task.directions}
            return made if len(made) > 1 else made[self.task.directions[0]]

        return [of_row(row) for row in rows]


class Copy(PairBaseline):
    """The source as it is: names, numbers and words that both languages have are right."""

    name: ClassVar[str] = "copy"
    summary: ClassVar[str] = "the source itself"

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        """Nothing is learnt."""

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """Return the sources."""
        return self.translate(rows, lambda text, direction: text)


class Dictionary(PairBaseline):
    """Each word by its likeliest translation, in the order of the source.

    The translations are those of IBM's model 1 (Brown et al. 1993), learnt from the training pairs.
    """

    name: ClassVar[str] = "dictionary"
    summary: ClassVar[str] = "word by word, by the likeliest translation of IBM model 1"

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        """Learn a dictionary for each direction."""
        self._words = {
            direction: dictionary(
                [words(text) for text, _ in pairs], [words(translation or "") for _, translation in pairs]
            )
            for direction in self.task.directions
            for pairs in [[self.task.sides(row, direction) for row in train]]
        }

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """Return the translations; a word that is not in the dictionary stays."""

        def one(text: str, direction: str) -> str:
            known = self._words[direction]
            return join_words([known.get(word, word) for word in words(text)])[0]

        return self.translate(rows, one)


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return [text[start:end] for start, end in split_words(text)]


def dictionary(sources: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the likeliest translation of each source word, by IBM model 1.

    Each target word comes from one word of its sentence's source, or from none; which, is what expectation maximisation
    finds out. All pairs of words that stand in a pair of sentences are computed at once.
    """
    source_ids, target_ids = ({word: n for n, word in enumerate(_vocabulary(side))} for side in (sources, targets))
    none = len(source_ids)
    left: list[np.ndarray[Any, Any]] = []
    right: list[np.ndarray[Any, Any]] = []
    places: list[np.ndarray[Any, Any]] = []
    n_places = 0
    for source, target in zip(sources, targets, strict=True):
        from_ids = np.asarray([none, *(source_ids[word] for word in source)])
        to_ids = np.asarray([target_ids[word] for word in target], dtype=np.int64)
        left.append(np.tile(from_ids, len(to_ids)))
        right.append(np.repeat(to_ids, len(from_ids)))
        places.append(np.repeat(np.arange(n_places, n_places + len(to_ids)), len(from_ids)))
        n_places += len(to_ids)
    lefts, rights, place = np.concatenate(left), np.concatenate(right), np.concatenate(places)
    kinds, kind = np.unique(lefts * len(target_ids) + rights, return_inverse=True)
    source_of, target_of = kinds // len(target_ids), kinds % len(target_ids)
    likely = np.ones(len(kinds))
    for _ in range(ITERATIONS):
        expected = likely[kind]
        expected /= np.bincount(place, expected)[place]
        counts = np.bincount(kind, expected, minlength=len(kinds))
        likely = counts / np.bincount(source_of, counts)[source_of]
    best: dict[int, int] = {}
    for number in np.argsort(likely, kind="stable").tolist():  # later, likelier ones replace the others
        best[int(source_of[number])] = int(target_of[number])
    names, translations = list(source_ids), list(target_ids)
    return {names[source]: translations[target] for source, target in best.items() if source != none}


def _vocabulary(side: Sequence[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(word for sentence in side for word in sentence))
