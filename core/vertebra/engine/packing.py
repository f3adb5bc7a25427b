"""Packing: many sequences of different lengths as one stream of tokens, without padding.

Letters: T tokens in the stream, N sequences in it, P positions that the head reads, D hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vertebra.engine.attention_rectangle import Rectangle, is_worth_it
from vertebra.engine.directions import Direction
from vertebra.engine.groups import Groups, group_sequences
from vertebra.tasks.features import Features
from vertebra.transfer import send


@dataclass(frozen=True)
class PackedBatch:
    """Sequences one behind the other, the longest first, so that those of equal length are neighbours."""

    input_ids_T: Tensor
    """The tokens of all sequences, one behind the other."""
    position_ids_T: Tensor
    """The place of each token in its own sequence."""
    cu_seqlens: Tensor
    """(N+1,) where each sequence starts in the stream; the last entry is T."""
    lengths: tuple[int, ...]
    """Tokens of each sequence."""
    positions_P: Tensor
    """Places in the stream whose hidden states the head reads."""
    position_counts: tuple[int, ...]
    """How many of these each sequence has; they add up to P."""
    targets: Tensor | None
    """What the task's `collate` made of the targets."""
    features: tuple[Features, ...]
    """The sequences themselves, in the stream's order."""
    attention: Direction | None = None
    """How the tokens of all sequences look, in all layers; None as the backbone's do."""
    causal: tuple[bool, ...] | None = None
    """For each sequence whether its tokens see only those before them; None where all follow the backbone."""
    hidden_PD: Tensor | None = None
    """What a frozen backbone made of the positions; None where the backbone is still to run."""
    parts: tuple[Part, ...] = ()
    """The sequences of each task, where those of several lie in the stream; `targets` are theirs then, and None here."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def n_tokens(self) -> int:
        """T, the tokens in the stream."""
        return len(self.input_ids_T)

    @property
    def n_targets(self) -> int:
        """How many targets the loss is the mean of."""
        return sum(one.n_targets for one in self.features)

    @cached_property
    def groups(self) -> Groups:
        """What attention computes together, in the stream's order."""
        return group_sequences(self.lengths, self.input_ids_T.device)

    @cached_property
    def rectangle(self) -> Rectangle | None:
        """What attention on a GPU computes at once where no kernel takes the stream; None where it is mostly padding."""
        longest = max(self.lengths)
        if not is_worth_it(self.n_tokens, len(self), longest):
            return None
        return Rectangle.of(self.cu_seqlens, self.n_tokens, longest)

    def to(self, device: torch.device | str) -> PackedBatch:
        """Return the batch with its tensors on `device`."""
        moved: dict[str, Any] = {
            name: send(value, device)
            for name in ("input_ids_T", "position_ids_T", "cu_seqlens", "positions_P", "targets", "hidden_PD")
            if (value := getattr(self, name)) is not None
        }
        return replace(self, **moved, parts=tuple(part.to(device) for part in self.parts))


@dataclass(frozen=True)
class Part:
    """The sequences of one task in a stream with those of others."""

    member: int
    """The number of the task."""
    rows_P: Tensor
    """Which of the positions of the whole stream are its own."""
    batch: PackedBatch
    """Its sequences alone, in the same order: what its head and its loss are given."""

    def to(self, device: torch.device | str) -> Part:
        """Return the part with its tensors on `device`."""
        return replace(self, rows_P=send(self.rows_P, device), batch=self.batch.to(device))


def rounded(batch: PackedBatch, multiple: int) -> PackedBatch:
    """Return the batch with more sequences, which nobody reads and none of which is the longest, so that T is a multiple.

    Buffers then come in few sizes, and the allocator finds each of them again; matrix products like even numbers too.
    """
    missing = -batch.n_tokens % multiple
    if not missing:
        return batch
    longest = max(batch.lengths)
    lengths = [min(longest, missing - start) for start in range(0, missing, longest)]
    # Positions and a token that are there already: a new token would be a new row of the embedding's gradient.
    device = batch.input_ids_T.device
    ends = torch.arange(longest, missing + longest, longest, dtype=torch.int32, device=device).clamp(max=missing)
    return replace(
        batch,
        input_ids_T=torch.cat([batch.input_ids_T, batch.input_ids_T[-1:].expand(missing)]),
        position_ids_T=torch.cat([batch.position_ids_T, torch.arange(missing, device=device) % longest]),
        cu_seqlens=torch.cat([batch.cu_seqlens, batch.cu_seqlens[-1:] + ends]),
        lengths=(*batch.lengths, *lengths),
        causal=None if batch.causal is None else (*batch.causal, *(True for _ in lengths)),
    )


Collate = Callable[[Sequence[Features]], Tensor | None]


def pack(features: Sequence[Features], collate: Collate) -> PackedBatch:
    """Lay features into one stream, the longest first (equal ones keep their order); all of them look the same way."""
    return _lay(tuple(sorted(features, key=len, reverse=True)), collate)


def _lay(ordered: tuple[Features, ...], collate: Collate) -> PackedBatch:
    lengths = [len(one) for one in ordered]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ways = {one.attention for one in ordered}
    if len(ways) > 1:
        raise ValueError("the sequences of one stream look the same way; `cut` keeps apart those that do not")
    return PackedBatch(
        input_ids_T=torch.from_numpy(np.concatenate([one.input_ids for one in ordered]).astype(np.int64)),
        position_ids_T=torch.from_numpy(np.concatenate([np.arange(length) for length in lengths])),
        cu_seqlens=torch.from_numpy(starts.astype(np.int32)),
        lengths=tuple(lengths),
        positions_P=torch.from_numpy(
            np.concatenate([one.positions + start for one, start in zip(ordered, starts, strict=False)]).astype(
                np.int64
            )
        ),
        position_counts=tuple(len(one.positions) for one in ordered),
        targets=collate(ordered),
        features=ordered,
        attention=next(iter(ways), None),
        hidden_PD=_hidden(ordered),
    )


def pack_tasks(features: Sequence[Features], collates: Sequence[Collate], *, apart: bool = False) -> PackedBatch:
    """Lay the features of one task or several into one stream, as `pack` does; each task collates its own targets.

    With `apart` the sequences of each task stand together, those of the first one first.
    """
    members = sorted({one.member for one in features})
    if len(members) == 1:
        return pack(features, collates[members[0]])
    ordered = sorted(features, key=lambda one: (one.member if apart else 0, -len(one)))
    whole = _lay(tuple(ordered), lambda _: None)
    owners_P = np.repeat([one.member for one in whole.features], whole.position_counts)
    parts = tuple(
        Part(
            member,
            torch.from_numpy(np.flatnonzero(owners_P == member)),
            pack([one for one in whole.features if one.member == member], collates[member]),
        )
        for member in members
    )
    return replace(whole, parts=parts)


def _hidden(features: Sequence[Features]) -> Tensor | None:
    parts = [one.hidden for one in features if one.hidden is not None]
    return torch.from_numpy(np.concatenate(parts)) if len(parts) == len(features) else None


def cut(features: Sequence[Features], token_budget: int, *, padded: bool = False) -> list[list[Features]]:
    """Cut features into pieces of at most `token_budget` tokens, counting padding where batches are `padded`.

    Sequences of like length come together, the longest first, so that the first piece already shows whether memory
    suffices. One sequence over the budget is a piece of its own, and so are those that look another way.
    """
    pieces: list[list[Features]] = []
    for way in dict.fromkeys(one.attention for one in features):
        cost, first = 0, True
        for one in sorted((one for one in features if one.attention == way), key=len, reverse=True):
            # In a padded piece every sequence takes as much room as the first, which is the longest.
            room = len(pieces[-1][0]) if padded and not first else len(one)
            if first or cost + room > token_budget:
                pieces.append([])
                cost, room, first = 0, len(one), False
            pieces[-1].append(one)
            cost += room
    return pieces
