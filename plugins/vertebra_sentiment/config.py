"""The settings of the tasks."""

from __future__ import annotations

from dataclasses import dataclass

from vertebra.tasks.config import SequenceClassificationConfig


@dataclass(frozen=True)
class SentimentConfig(SequenceClassificationConfig):
    """How a text judges: the settings of labelled texts, with nothing of its own."""


@dataclass(frozen=True)
class ClassificationConfig(SequenceClassificationConfig):
    """Which label a text has: the settings of labelled texts, with nothing of its own."""
