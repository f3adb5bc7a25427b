"""The settings of the task."""

from __future__ import annotations

from dataclasses import dataclass

from vertebra.tasks.config import TokenClassificationConfig


@dataclass(frozen=True)
class NERConfig(TokenClassificationConfig):
    """How entities are found: the settings of word labelling, with nothing of its own."""
