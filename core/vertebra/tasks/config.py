"""The settings of the task families; a plugin's config dataclass derives from its family's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge

from vertebra.config.schema import Fraction, Positive, Strict


@dataclass(frozen=True)
class TokenClassificationConfig(Strict):
    """How words are labelled."""

    label_on: Literal["last", "first"] = "last"
    """Which sub-token of a word carries its label. Under causal attention only the last has read the whole word."""
    dropout: Fraction = 0.1
    """The share of hidden values that the head drops in training."""


@dataclass(frozen=True)
class SpanExtractionConfig(Strict):
    """How a span of a context is found."""

    window: Annotated[int, Ge(16)] = 384
    """The most tokens that are read at once; a longer question and context are read in windows, each with the question."""
    overlap: Annotated[int, Ge(0)] = 128
    """The context tokens that two neighbouring windows share, at most half of a window's."""
    longest_answer: Positive = 30
    """The most tokens of an answer that is predicted."""
    n_best: Positive = 5
    """How many spans a prediction lists."""
    dropout: Fraction = 0.1
    """The share of hidden values that the head drops in training."""


@dataclass(frozen=True)
class RankingConfig(Strict):
    """How candidates are scored."""

    dropout: Fraction = 0.1
    """The share of hidden values that the head drops in training."""
