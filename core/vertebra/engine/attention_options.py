"""What a layer asks of its attention, and which tokens see which by that."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Options:
    """What a layer asks of its attention."""

    scale: float | None = None
    """What scores are multiplied with; by default 1/√d."""
    dropout: float = 0.0
    """The share of attention weights that is dropped."""
    causal: bool = True
    """Whether a token sees only those before it and itself; `PackedBatch.causal` overrides it for single sequences."""
    window: int | None = None
    """How far a token sees: causal, this many tokens, itself included; bidirectional, this many to either side."""


def reach(length: int, causal: bool, window: int | None, device: torch.device) -> Tensor:
    """Return (L, L), true where a query may look in a sequence of this length.

    As in transformers: causal, the last `window` tokens, itself included; bidirectional, `window` tokens to either side.
    """
    place_L = torch.arange(length, device=device)
    distance_LL = place_L[:, None] - place_L[None, :]
    if causal:
        return (distance_LL >= 0) & (distance_LL < (length if window is None else window))
    return distance_LL.abs() <= (length if window is None else window)
