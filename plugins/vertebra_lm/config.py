"""The settings of both tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from vertebra.config.schema import Fraction
from vertebra.tasks.config import CorpusConfig


@dataclass(frozen=True)
class MaskingConfig(CorpusConfig):
    """How tokens are masked."""

    masked: Fraction = 0.2
    """The share of each document's tokens in a window that are masked, and predicted, where a window is read both ways."""
    mask_token: str = "_"
    """What stands in their place where the tokenizer has no mask of its own: a token that it knows."""


@dataclass(frozen=True)
class LanguageModellingConfig(MaskingConfig):
    """How next tokens are learnt."""

    both_ways: Annotated[int, Ge(0)] = 0
    """For each time that a window is read causally, how often it is read both ways with tokens masked, in an epoch."""


@dataclass(frozen=True)
class MaskedNextTokenConfig(MaskingConfig):
    """How masked tokens are learnt: the settings of masks, with nothing of its own."""
