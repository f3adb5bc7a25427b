"""How layers look: back alone, or both ways. Without torch, since a configuration is checked before it is imported."""

from __future__ import annotations

from typing import Literal, cast, get_args

Direction = Literal["causal", "bidirectional"]
Attention = Direction | float | tuple[Direction, ...]
"""Of all layers; a number is the share of them, the upper ones, that look both ways; or of each layer, the lowest first."""


def attention_in(document: object) -> Attention | None:
    """Return an attention as it stands in a JSON document; None for what is none."""
    directions = get_args(Direction)
    if isinstance(document, str) and document in directions:
        return cast(Direction, document)
    if isinstance(document, int | float) and not isinstance(document, bool) and 0 <= document <= 1:
        return float(document)
    if isinstance(document, list) and document and all(isinstance(one, str) and one in directions for one in document):
        return tuple(document)
    return None
