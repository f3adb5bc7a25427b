"""The settings of the task families; a plugin's config dataclass derives from its family's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vertebra.config.schema import Fraction, Strict


@dataclass(frozen=True)
class TokenClassificationConfig(Strict):
    """How words are labelled."""

    label_on: Literal["last", "first"] = "last"
    """Which sub-token of a word carries its label. Under causal attention only the last has read the whole word."""
    dropout: Fraction = 0.1
    """The share of hidden values that the head drops in training."""
