"""The cache of keys and values: pages of a fixed number of tokens, dense in memory.

All pages of all sequences lie side by side, so that one batched product reads exactly what the running sequences have,
whatever their lengths (pages as in Kwon et al. 2023, arXiv:2309.06180).

Letters: P pages, B tokens in a page, G key-value heads, d their width, T tokens in the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

PAGE = 32
"""B. Larger pages waste more on the last one of each sequence, smaller ones are more products; measured on CPU."""


@dataclass(eq=False)
class Slot:
    """One sequence and its place in the cache."""

    tokens: list[int]
    """Prompt and text so far."""
    cached: int = 0
    """How many of them have their keys and values in the cache."""
    pages: list[int] = field(default_factory=list)


class Pages:
    """Which page belongs to which slot. After `compact` the pages in use are the first `used` ones."""

    def __init__(self) -> None:
        self._owners: list[Slot | None] = []
        self._free: list[int] = []

    @property
    def used(self) -> int:
        """How many pages there are up to the last one in use."""
        return len(self._owners)

    def reserve(self, slot: Slot, n_tokens: int) -> None:
        """Give the slot pages for `n_tokens`, freed ones first."""
        while len(slot.pages) * PAGE < n_tokens:
            if self._free:
                page = self._free.pop()
                self._owners[page] = slot
            else:
                page = len(self._owners)
                self._owners.append(slot)
            slot.pages.append(page)

    def release(self, slot: Slot) -> None:
        """Take the slot's pages back."""
        for page in slot.pages:
            self._owners[page] = None
        self._free.extend(slot.pages)
        slot.pages.clear()

    def compact(self) -> list[tuple[int, int]]:
        """Close the holes with the last pages; return the moves, (from, to), that the contents must follow."""
        moves = []
        for hole in sorted(self._free):
            while self._owners and self._owners[-1] is None:
                self._owners.pop()
            if hole >= len(self._owners):
                break
            last = len(self._owners) - 1
            owner = self._owners.pop()
            assert owner is not None
            owner.pages[owner.pages.index(last)] = hole
            self._owners[hole] = owner
            moves.append((last, hole))
        self._free.clear()
        return moves


class KeyValues:
    """The contents of the pages: for each layer keys and values, (P, G, B, d) each, which grow when necessary."""

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def layer(self, number: int, key: Tensor, value: Tensor, n_pages: int) -> tuple[Tensor, Tensor]:
        """Return a layer's pages, at least `n_pages`; `key` and `value` (T, G, d) say what they hold."""
        if number not in self._layers:
            made = [one.new_zeros(n_pages, one.shape[1], PAGE, one.shape[2]) for one in (key, value)]
            self._layers[number] = (made[0], made[1])
        return self._grown(number, n_pages)

    def move(self, moves: Sequence[tuple[int, int]]) -> None:
        """Copy whole pages, (from, to), in every layer."""
        if not moves:
            return
        source, target = torch.tensor(moves).unbind(dim=1)
        n_pages = int(target.max()) + 1
        for number in self._layers:
            for pool in self._grown(number, n_pages):
                pool[target.to(pool.device)] = pool[source.to(pool.device)]

    def _grown(self, number: int, n_pages: int) -> tuple[Tensor, Tensor]:
        """Return a layer's pages, at least `n_pages`."""
        pools = self._layers[number]
        if len(pools[0]) < n_pages:
            more = max(n_pages, 2 * len(pools[0])) - len(pools[0])
            key, value = (torch.cat([pool, pool.new_zeros(more, *pool.shape[1:])]) for pool in pools)
            pools = self._layers[number] = (key, value)
        return pools
