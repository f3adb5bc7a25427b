"""What a model of entities must beat: the entities that training knows, and a conditional random field."""

from __future__ import annotations

import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vertebra.tasks.baseline import Baseline
from vertebra.tasks.frequent_tag import most_frequent
from vertebra_ner.entities import Entity, find_entities

if TYPE_CHECKING:
    from vertebra.tasks.task import Row
    from vertebra_ner.task import NER


class KnownEntities(Baseline):
    """Finds the entities of the training rows again: the baseline of the CoNLL-2003 shared task.

    Tjong Kim Sang and De Meulder (2003) say of theirs that it takes only entities of one class in training, and of
    overlapping ones the longest. Their published scores (English test set: precision 71.91, recall 50.90, F1 59.61) are
    those of the most frequent class of every known entity, the first by alphabet where two are as frequent, and so that
    is what this one does; the entities of one class alone give an F1 of 56.73.
    """

    name: ClassVar[str] = "known entities"
    summary: ClassVar[str] = (
        "the longest phrases that are entities in training, each of its most frequent type (CoNLL-2003's baseline)"
    )

    task: NER

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        """Count the types of each phrase that is an entity."""
        types: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for row in train:
            for kind, first, last in find_entities(self.task.tags(row)):
                types[tuple(row["tokens"][first : last + 1])][kind] += 1
        self.types = {phrase: most_frequent(kinds) for phrase, kinds in types.items()}
        self.longest = max(map(len, self.types), default=0)

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """Look the phrases of each row up."""
        predictions = []
        for row in rows:
            tags = ["O"] * len(row["tokens"])
            for kind, first, last in self.found(row["tokens"]):
                tags[first : last + 1] = [f"B-{kind}", *[f"I-{kind}"] * (last - first)]
            predictions.append(self.task.combine(row, [tags]))
        return predictions

    def found(self, words: Sequence[str]) -> Iterator[Entity]:
        """Yield the known entities from left to right, at each place the longest one."""
        place = 0
        while place < len(words):
            for length in range(min(self.longest, len(words) - place), 0, -1):
                if kind := self.types.get(tuple(words[place : place + length])):
                    yield kind, place, place + length - 1
                    break
            else:
                length = 1
            place += length


class CRF(Baseline):
    """A linear-chain conditional random field (Lafferty et al. 2001) over words, shapes and affixes, by CRFsuite.

    Trained by L-BFGS with elastic-net regularization; nothing is tuned to a data set.
    """

    name: ClassVar[str] = "CRF"
    summary: ClassVar[str] = "a conditional random field over words, their shapes, affixes and neighbours (CRFsuite)"

    settings: ClassVar[dict[str, Any]] = {"c1": 0.1, "c2": 0.1, "max_iterations": 60, "feature.minfreq": 2}

    task: NER

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        """Train on the training rows."""
        import pycrfsuite

        trainer = pycrfsuite.Trainer("lbfgs", self.settings, verbose=False)
        for row in train:
            if row["tokens"]:
                trainer.append(self.attributes(row["tokens"]), self.task.tags(row))
        with tempfile.TemporaryDirectory(prefix="vertebra-") as scratch:
            file = Path(scratch) / "crf"
            trainer.train(str(file))
            self.tagger = pycrfsuite.Tagger()
            self.tagger.open(str(file))  # reads it whole; from bytes it would keep a pointer, and no reference, to them

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """Return what the best path through each row says."""
        tagged = (self.tagger.tag(self.attributes(row["tokens"])) if row["tokens"] else [] for row in rows)
        return [self.task.combine(row, [list(tags)]) for row, tags in zip(rows, tagged, strict=True)]

    def attributes(self, words: Sequence[str]) -> list[list[str]]:
        """Return what the field sees at each word."""
        lower = [word.lower() for word in words]
        shapes = [shape_of(word) for word in words]
        pairs = self.task.by_character  # single characters say little alone
        return [list(_attributes(words, lower, shapes, place, pairs)) for place in range(len(words))]


def _attributes(
    words: Sequence[str], lower: Sequence[str], shapes: Sequence[str], place: int, pairs: bool
) -> Iterator[str]:
    word = words[place]
    yield from (f"word={word}", f"lower={lower[place]}", f"shape={shapes[place]}")
    yield from (
        f"prefix={word[:2]}",
        f"prefix={word[:3]}",
        f"suffix={lower[place][-2:]}",
        f"suffix={lower[place][-3:]}",
    )
    for step in (-2, -1, 1, 2):
        there = place + step
        if not 0 <= there < len(words):
            yield f"{step}:end"
            continue
        yield from (f"{step}:lower={lower[there]}", f"{step}:shape={shapes[there]}")
        if abs(step) == 1:
            yield f"{step}:shapes={shapes[there]} {shapes[place]}"
        if abs(step) == 1 and pairs:
            yield f"{step}:pair={lower[there]} {lower[place]}"


def shape_of(word: str) -> str:
    """Return what a word looks like: `X` for capitals, `x` for other letters, `0` for digits, each run written once."""
    kinds = re.sub(r"[^\W\d_]", lambda letter: "X" if letter[0].isupper() else "x", word)
    return "".join(kind for kind, _ in groupby(re.sub(r"\d", "0", kinds)))
