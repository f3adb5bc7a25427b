"""Batches of several tasks as one stream: each task's sequences stand together, and are packed as if they were alone.

Letters: T tokens in the stream, N sequences in it, P positions that the heads read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from vertebra.engine.packing import PackedBatch


@dataclass(frozen=True)
class Segment:
    """The part of a stream that is one task's."""

    name: str
    """The task's, or its adapter's."""
    batch: PackedBatch
    """Its own sequences and targets, packed alone: what its head, its loss and its decoding read."""
    sequences: slice
    """Which of the stream's N sequences are its own."""
    tokens: slice
    """Which of the T tokens."""
    positions: slice
    """Which of the P positions."""


@dataclass(frozen=True)
class MixedBatch:
    """One stream that knows whose each of its sequences is."""

    stream: PackedBatch
    """All sequences, without targets: these are in the segments."""
    segments: tuple[Segment, ...]
    """In the stream's order; none is empty."""

    @classmethod
    def of(cls, stream: PackedBatch, parts: Sequence[tuple[str, PackedBatch]]) -> MixedBatch:
        """Return the stream of these batches, by their names, which stand in it one behind the other."""
        tokens, sequences, positions = (
            [slice(*ends) for ends in pairwise(accumulate(counts, initial=0))]
            for counts in (
                [one.n_tokens for _, one in parts],
                [len(one) for _, one in parts],
                [len(one.positions_P) for _, one in parts],
            )
        )
        return cls(
            stream,
            tuple(
                Segment(name, one, *places)
                for (name, one), *places in zip(parts, sequences, tokens, positions, strict=True)
            ),
        )

    def split(self, rows_P: Tensor) -> dict[str, Tensor]:
        """Return for each segment its rows of (P, …), such as hidden states."""
        return {one.name: rows_P[one.positions] for one in self.segments}

    def to(self, device: torch.device | str) -> MixedBatch:
        """Return the batch with its tensors on `device`."""
        segments = tuple(replace(one, batch=one.batch.to(device)) for one in self.segments)
        return MixedBatch(self.stream.to(device), segments)


def mix(batches: Mapping[str, PackedBatch], causal: Mapping[str, bool] | None = None) -> MixedBatch:
    """Lay packed batches, by the names of their tasks, one behind the other.

    `causal` says for each name whether its tokens see only those before them; by default all follow the backbone.
    """
    parts = [one for one in batches.values() if len(one)]
    names = [name for name, one in batches.items() if len(one)]
    if not parts:
        raise ValueError("a mixed batch needs a sequence")
    if len({one.attention for one in parts}) > 1:
        raise ValueError("a mixed batch has sequences that look the same way, or as `causal` says")
    tokens = list(accumulate((one.n_tokens for one in parts), initial=0))
    hidden = [one.hidden_PD for one in parts]
    stream = PackedBatch(
        input_ids_T=torch.cat([one.input_ids_T for one in parts]),
        position_ids_T=torch.cat([one.position_ids_T for one in parts]),
        cu_seqlens=torch.cat(
            [one.cu_seqlens[bool(start) :] + start for one, start in zip(parts, tokens, strict=False)]
        ),
        lengths=tuple(length for one in parts for length in one.lengths),
        positions_P=torch.cat([one.positions_P + start for one, start in zip(parts, tokens, strict=False)]),
        position_counts=tuple(count for one in parts for count in one.position_counts),
        targets=None,
        features=tuple(feature for one in parts for feature in one.features),
        attention=parts[0].attention,
        causal=None
        if causal is None
        else tuple(causal[name] for name, one in zip(names, parts, strict=True) for _ in range(len(one))),
        hidden_PD=None if any(one is None for one in hidden) else torch.cat([one for one in hidden if one is not None]),
    )
    return MixedBatch.of(stream, list(zip(names, parts, strict=True)))
