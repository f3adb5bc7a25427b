"""Scores: strict precision, recall and F1 over entities, and accuracy over words.

An entity is right where its type and both its ends are; all entities of all sentences count alike (micro average). The
numbers are those of seqeval with `mode="strict", scheme=IOB2`. Predictions and references are those of `annotate`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from vertebra.metrics.metric import Counts, Metric

Annotation = dict[str, Any]


class EntityMetric(Metric):
    """What one sentence adds: entities found and right, entities predicted, entities there are."""

    def count(self, prediction: Annotation, reference: Annotation) -> tuple[float, ...]:
        """Return (right, predicted, true)."""
        predicted, true = _keys(prediction), _keys(reference)
        return len(predicted & true), len(predicted), len(true)


class EntityPrecision(EntityMetric):
    """The share of predicted entities that are right."""

    name: ClassVar[str] = "entity_precision"

    def score(self, counts_EK: Counts) -> float:
        """Return right ÷ predicted."""
        right, predicted, _ = counts_EK.sum(axis=0)
        return _share(right, predicted)


class EntityRecall(EntityMetric):
    """The share of true entities that were found."""

    name: ClassVar[str] = "entity_recall"

    def score(self, counts_EK: Counts) -> float:
        """Return right ÷ true."""
        right, _, true = counts_EK.sum(axis=0)
        return _share(right, true)


class EntityF1(EntityMetric):
    """The harmonic mean of precision and recall."""

    name: ClassVar[str] = "entity_f1"

    def score(self, counts_EK: Counts) -> float:
        """Return 2 · right ÷ (predicted + true)."""
        right, predicted, true = counts_EK.sum(axis=0)
        return _share(2 * right, predicted + true)


class TokenAccuracy(Metric):
    """The share of words with the right tag, `O` included: high even where few entities are found."""

    name: ClassVar[str] = "token_accuracy"

    def count(self, prediction: Annotation, reference: Annotation) -> tuple[float, ...]:
        """Return (right, words)."""
        pairs = list(zip(prediction["tags"], reference["tags"], strict=True))
        return sum(predicted == true for predicted, true in pairs), len(pairs)

    def score(self, counts_EK: Counts) -> float:
        """Return right ÷ words."""
        right, words = counts_EK.sum(axis=0)
        return _share(right, words)


def _keys(annotation: Annotation) -> set[tuple[str, int, int]]:
    return {(entity["type"], entity["first"], entity["last"]) for entity in annotation["entities"]}


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
