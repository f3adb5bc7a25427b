"""Groups: sequences of like length that attention computes together, as rows of one rectangle.

A rectangle for each length would waste nothing and call a kernel for each; so lengths that differ by less than `STEP` share
one, and only attention, the smaller part of the work, sees the little padding that this needs. On a GPU a call costs more
than the padding: there lengths share one that have the next power of two in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from vertebra.transfer import send

STEP = 16
"""Tokens."""
LEAST_ON_GPU = 64
"""Tokens up to which all lengths share a rectangle on a GPU."""


@dataclass(frozen=True)
class Group:
    """Neighbouring sequences of the stream, n of them, the longest with L tokens."""

    places: slice
    """Where their rectangle stands among all rectangles, laid one behind the other."""
    sequences: slice
    """Which sequences they are."""
    count: int
    """n, the sequences."""
    longest: int
    """L, the tokens of the longest."""
    is_padding: Tensor | None
    """(n, L) where the rectangle holds no token; None where every place does."""


@dataclass(frozen=True)
class Groups:
    """All sequences of a stream in rectangles, with R places altogether for T tokens."""

    members: tuple[Group, ...]
    tokens_R: Tensor | None
    """The stream's token at each place; for padding the last one of its sequence. None where there is no padding."""
    places_T: Tensor | None
    """The place of each token; None where there is no padding."""
    padding: Tensor | None
    """The places of padding; None where there is none."""

    def spread(self, stream: Tensor) -> Tensor:
        """Return (R, …), the stream's rows (T, …) laid into the rectangles."""
        return stream if self.tokens_R is None else stream.index_select(0, self.tokens_R)

    def collect(self, places: Tensor) -> Tensor:
        """Return the stream's rows (T, …) out of the rectangles (R, …)."""
        return places if self.places_T is None else places.index_select(0, self.places_T)


def group_sequences(lengths: Sequence[int], device: torch.device | str = "cpu") -> Groups:
    """Group the sequences of a stream whose neighbours have like lengths; none is empty."""
    members: list[Group] = []
    sequence = place = 0
    share = _share_on_cpu if torch.device(device).type == "cpu" else _share_on_gpu
    for _, run in groupby(lengths, key=share):
        lengths_n = torch.tensor(tuple(run))
        count, longest = len(lengths_n), int(lengths_n.max())
        is_padding_nL = torch.arange(longest) >= lengths_n[:, None]
        members.append(
            Group(
                slice(place, place + count * longest),
                slice(sequence, sequence + count),
                count,
                longest,
                send(is_padding_nL, device) if is_padding_nL.any() else None,
            )
        )
        sequence, place = sequence + count, place + count * longest
    if all(group.is_padding is None for group in members):
        return Groups(tuple(members), None, None, None)
    return Groups(tuple(members), *(send(one, device) for one in _places(torch.tensor(lengths), members)))


def _share_on_cpu(length: int) -> int:
    return -(-length // STEP)


def _share_on_gpu(length: int) -> int:
    return (max(LEAST_ON_GPU, length) - 1).bit_length()


def _places(lengths_N: Tensor, members: Sequence[Group]) -> tuple[Tensor, Tensor, Tensor]:
    """Return `tokens_R`, `places_T` and `padding` of `Groups`."""
    starts_N = lengths_N.cumsum(0) - lengths_N
    tokens, real = [], []
    for group in members:
        place_L = torch.arange(group.longest)
        last_n1 = lengths_N[group.sequences, None] - 1
        tokens.append((starts_N[group.sequences, None] + torch.minimum(place_L, last_n1)).flatten())
        real.append((place_L <= last_n1).flatten())
    real_R = torch.cat(real)
    return torch.cat(tokens), real_R.nonzero().squeeze(1), (~real_R).nonzero().squeeze(1)
