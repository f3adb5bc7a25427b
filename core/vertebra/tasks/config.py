"""The settings of the task families; a plugin's config dataclass derives from its family's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from vertebra.config.schema import Fraction, Positive, Strict


@dataclass(frozen=True)
class TokenClassificationConfig(Strict):
    """How words are labelled."""

    label_on: Literal["last", "first"] = "last"
    """Which sub-token of a word carries its label. Under causal attention only the last has read the whole word."""
    dropout: Fraction = 0.1
    """The share of hidden values that the head drops in training."""


@dataclass(frozen=True)
class GenerationConfig(Strict):
    """How texts are asked for and written."""

    prompt: str = "{text}\n"
    """What the model reads before it writes; a name in braces stands for that column of the row."""
    max_new_tokens: Positive = 128
    """At most this many tokens are written, the one that ends a text included. The prompt leaves room for them."""
    long_target: Literal["cut", "error"] = "cut"
    """What happens to a text of the training data that has more; how many were cut stands in the report."""
    label_smoothing: Fraction = 0.0
    """The share of each target token's weight that training spreads over the vocabulary."""
    temperature: Annotated[float, Ge(0)] = 0.0
    """0 writes the likeliest token each time; above it, tokens are drawn."""
    top_k: Positive | None = None
    """Draw from the k likeliest tokens."""
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    """Draw from the likeliest tokens that together reach this probability."""
    min_p: Annotated[float, Ge(0), Le(1)] = 0.0
    """Draw from tokens at least this times as likely as the likeliest one."""
    repetition_penalty: Annotated[float, Gt(0)] = 1.0
    """Above 1 makes tokens of the prompt and of the text so far less likely."""
    sampling_seed: Annotated[int, Ge(0)] = 0
    """The seed of what is drawn."""
    texts_while_training: Annotated[int, Ge(0)] = 200
    """At each evaluation in training, at most this many rows of validation get a text; 0 leaves the loss alone."""
