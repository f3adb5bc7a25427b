"""Sentiment, and any other labelling of texts."""

from __future__ import annotations

from typing import ClassVar

from vertebra.tasks.sequence_classification import SequenceClassification


class Sentiment(SequenceClassification):
    """How a text judges: `{"label": "positive", "probability": 0.93, "probabilities": {...}}`."""

    name: ClassVar[str] = "sentiment"


class Classification(SequenceClassification):
    """Which label a text has, of two or of thousands."""

    name: ClassVar[str] = "classification"
