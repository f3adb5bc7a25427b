"""The settings of the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vertebra.config.schema import Fraction, Positive, Strict


@dataclass(frozen=True)
class RecommendationConfig(Strict):
    """How items and histories are read, and what a prediction is compared with in training."""

    history: Literal["items", "text"] = "items"
    """items: the backbone reads each item's text once, and layers of the head read the sequence of items; text: the backbone
    reads the texts of a whole history as one sequence, which costs about ten times as much."""
    item_ids: bool = True
    """Add a learnt vector for each item of the training histories to what its text says; other items have their text alone."""
    item_id_dropout: Fraction = 0.3
    """The share of items whose learnt vector is left out in a training pass, so that texts alone suffice, too."""
    max_items: Positive = 100
    """The most items of a history that are read at once, the latest ones; longer training histories are cut into windows."""
    max_tokens: Positive = 512
    """With `history=text`, the most tokens of a history that are read at once, in whole items."""
    item_tokens: Positive = 48
    """The most tokens of an item's text; what is behind them is not read."""
    negatives: Positive | None = None
    """Random items that a training pass ranks beside its own, with a correction for how likely each item was to be among
    them; null: all items of the training histories."""
    width: Positive = 128
    """Numbers in the vector of an item or a history."""
    layers: Positive = 2
    """With `history=items`, the layers of the head that read the sequence of items."""
    heads: Positive = 2
    """Attention heads in each of these layers."""
    dropout: Fraction = 0.3
    """The share of values that the head drops in training."""
    exclude_seen: bool = True
    """Leave the items of a user's own history out of the ranking, in evaluation and prediction."""
    sampled: bool = False
    """Also score the next item among 100 random items that the user has not seen; such scores are not those of the full
    ranking, and are called `…_sampled_100`."""
