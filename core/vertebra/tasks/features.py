"""Features: one sequence of tokens with what the task wants to know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertebra.engine.directions import Direction

Ids = NDArray[np.int32]
Hidden = NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """A row as the model reads it, or one window of a row that is longer than the context.

    `input_ids` (L,) are the tokens. `positions` (P,) are the tokens whose hidden states the head reads, by default the
    last one alone. `target` is what the loss compares with: one value for the sequence, or a list with one value for each
    position; anything that JSON can hold, or an array of whole numbers. `note` is whatever decoding needs, again JSON.
    """

    input_ids: Ids
    target: Any = None
    positions: Ids = None  # type: ignore[assignment]  # set below
    note: dict[str, Any] = field(default_factory=dict)
    example: int = 0
    """The number of the row in its split; the core sets it."""
    window: int = 0
    """The number of the window in its row; the core sets it."""
    member: int = 0
    """The number of its task among those of the run; the core sets it."""
    attention: Direction | None = None
    """How its tokens look at each other, in all layers; None as `backbone.attention` says."""
    hidden: Hidden | None = field(default=None, repr=False)
    """(P, D) what a frozen backbone made of the positions; the core sets it, None where the backbone is still to run."""
    at_end: bool = field(default=False, repr=False, compare=False)
    """Whether the head reads the last token, wherever a window ends; so where no positions are given."""

    def __post_init__(self) -> None:
        ids = getattr(self.input_ids, "input_ids", self.input_ids)  # what a tokenizer returns is welcome as it is
        object.__setattr__(self, "input_ids", np.asarray(ids, dtype=np.int32))
        last = [len(self.input_ids) - 1] if len(self.input_ids) else []
        object.__setattr__(self, "at_end", self.at_end or self.positions is None)
        given = last if self.positions is None else self.positions
        object.__setattr__(self, "positions", np.asarray(given, dtype=np.int32))

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def per_position(self) -> bool:
        """Whether the target has one value for each position."""
        return isinstance(self.target, list | np.ndarray)

    @property
    def n_targets(self) -> int:
        """How many targets this adds to a step: what it weighs in the step's loss."""
        if self.target is None:
            return 0
        return len(self.target) if self.per_position else 1

    def read_everywhere(self) -> Features:
        """Return the features with every token among the positions, for a head that pools."""
        return replace(self, positions=np.arange(len(self), dtype=np.int32), at_end=False)

    def truncated(self, limit: int) -> Features:
        """Keep the first `limit` tokens; positions behind them go, and with them their targets."""
        kept = self.positions < limit
        if self.per_position:
            target = _chosen(self.target, kept)
            return replace(self, input_ids=self.input_ids[:limit], positions=self.positions[kept], target=target)
        positions = self.positions[kept] if kept.any() else np.asarray([limit - 1], dtype=np.int32)
        return replace(self, input_ids=self.input_ids[:limit], positions=positions)

    def windows(self, limit: int, overlap: int | None = None) -> Iterator[Features]:
        """Cut into windows of at most `limit` tokens that overlap by `overlap` (a quarter of `limit` by default).

        Each position stands in exactly one window, the one in which it is farthest from the edges, so that no target is
        lost and none counts twice. A head that reads the last token alone reads that of each window.
        """
        overlap = limit // 4 if overlap is None else overlap
        if not 0 <= overlap < limit:
            raise ValueError(f"overlap must be at least 0 and below the window's {limit} tokens, got {overlap}")
        if len(self) <= limit:
            yield self
            return
        stride = limit - overlap
        starts = [*range(0, len(self) - limit, stride), len(self) - limit]
        edges = [0, *[(left + limit + right) // 2 for left, right in pairwise(starts)], len(self)]
        for number, start in enumerate(starts):
            inside = (self.positions >= edges[number]) & (self.positions < edges[number + 1])
            positions, target = self.positions[inside] - start, self.target
            if self.at_end:
                positions = np.asarray([limit - 1], dtype=np.int32)
            elif self.per_position:
                target = _chosen(self.target, inside)
            yield replace(
                self,
                input_ids=self.input_ids[start : start + limit],
                positions=positions,
                target=target,
                window=number,
            )


MakePiece = Callable[[Ids, Ids, int], Features]
"""Makes features of a document's tokens in a window, the tokens behind each of them, and the number of the piece."""


def _chosen(target: Any, keep: NDArray[np.bool_]) -> Any:
    """Return the values of a list or an array that are kept."""
    if isinstance(target, np.ndarray):
        return target[keep]
    return [value for value, kept in zip(target, keep, strict=True) if kept]


def as_list(encoded: Features | Sequence[Features]) -> list[Features]:
    """Return what `Task.encode` gave as a list."""
    return [encoded] if isinstance(encoded, Features) else list(encoded)
