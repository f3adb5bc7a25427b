"""The settings of both tasks."""

from __future__ import annotations

from dataclasses import dataclass

from vertebra.config.schema import Fraction
from vertebra.tasks.config import CorpusConfig


@dataclass(frozen=True)
class LanguageModellingConfig(CorpusConfig):
    """How next tokens are learnt: the settings of windows, with nothing of its own."""


@dataclass(frozen=True)
class MaskedNextTokenConfig(CorpusConfig):
    """How masked tokens are learnt."""

    masked: Fraction = 0.2
    """The share of each document's tokens in a window that are masked, and predicted."""
    mask_token: str = "_"
    """What stands in their place where the tokenizer has no mask of its own: a token that it knows."""
