"""From slots to the logits of their next tokens.

Letters: T tokens in the stream, N sequences, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vertebra.engine.blocks.kernels import PrepackedKernels
from vertebra.engine.blocks.passes import find_pass
from vertebra.engine.cache_name import cache_name
from vertebra.engine.generation.cache import PAGE, KeyValues, Pages, Slot
from vertebra.engine.generation.stream import CachedStream
from vertebra.engine.prepacked import can_prepack

Forward = Callable[[CachedStream], Tensor]
"""Runs the stream through a model whose attention is `stream.attend`; returns logits (N, V) at `stream.last_N`."""


class Decoder(Protocol):
    """A model with a cache."""

    def logits(self, slots: Sequence[Slot]) -> Tensor:
        """Return (N, V) for the token behind each slot's last one; afterwards every token of the slots is cached."""

    def copy(self, copies: Sequence[tuple[Slot, Slot]]) -> None:
        """Make slots equal to others, (from, to), all of whose tokens are cached. No slot is both."""

    def release(self, slot: Slot) -> None:
        """Forget what is cached of a slot."""


class PackedDecoder:
    """Runs all slots as one stream without padding, over a cache of pages."""

    def __init__(self, forward: Forward, device: torch.device) -> None:
        self._forward = forward
        self._device = device
        self._pages = Pages()
        self._contents = KeyValues()

    def logits(self, slots: Sequence[Slot]) -> Tensor:
        """See `Decoder`. Prefixes of whole pages that a new slot shares with another one are copied, not computed."""
        shared = [(new, *_longest_prefix(new, slots[:row])) for row, new in enumerate(slots) if new.cached == 0]
        for slot in slots:
            self._pages.reserve(slot, len(slot.tokens))
        self._contents.move(self._pages.compact())
        origin: dict[int, int] = {}
        for new, source, n_pages in shared:
            new.cached = n_pages * PAGE
            # The source may itself be new and have its prefix from another.
            origin |= {
                to: origin.get(page, page) for page, to in zip(source.pages[:n_pages], new.pages[:n_pages], strict=True)
            }
        copies = [(page, to) for to, page in origin.items()]
        stream = CachedStream(slots, self._contents, self._pages.used, copies, self._device)
        logits_NV = self._forward(stream)
        for slot in slots:
            slot.cached = len(slot.tokens)
        return logits_NV

    def copy(self, copies: Sequence[tuple[Slot, Slot]]) -> None:
        """See `Decoder`. Pages that hold the same tokens in both are left as they are."""
        moves: list[tuple[int, int]] = []
        for source, target in copies:
            same = _same_pages(source, target, min(source.cached, target.cached) // PAGE)
            target.tokens, target.cached = source.tokens.copy(), source.cached
            self._pages.reserve(target, target.cached)
            moves += zip(source.pages[same:], target.pages[same:], strict=True)
        self._contents.move(moves)

    def release(self, slot: Slot) -> None:
        """See `Decoder`."""
        self._pages.release(slot)
        slot.cached = 0


class SerialDecoder:
    """Runs one slot after the other with the cache of transformers: for any causal model, and slow."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._name = cache_name(model)
        self._caches: dict[Slot, Any] = {}

    def logits(self, slots: Sequence[Slot]) -> Tensor:
        """See `Decoder`."""
        return torch.cat([self._next(slot) for slot in slots])

    def copy(self, copies: Sequence[tuple[Slot, Slot]]) -> None:
        """See `Decoder`."""
        for source, target in copies:
            target.tokens, target.cached = source.tokens.copy(), source.cached
            self._caches[target] = deepcopy(self._caches[source])

    def release(self, slot: Slot) -> None:
        """See `Decoder`."""
        self._caches.pop(slot, None)
        slot.cached = 0

    def _next(self, slot: Slot) -> Tensor:
        cache = self._caches.get(slot)
        # A model without such a cache reads the whole text again.
        ids = slot.tokens if cache is None else slot.tokens[slot.cached :]
        ids_1T = torch.tensor([ids], device=self._model.device)
        out = self._model(input_ids=ids_1T, use_cache=True, **{self._name: cache})
        self._caches[slot] = getattr(out, self._name, None)
        slot.cached = len(slot.tokens)
        logits_1V: Tensor = out.logits[:, -1]
        return logits_1V


def run_model(model: PreTrainedModel) -> Forward:
    """Return the forward pass of a causal model of transformers, as it is, whose attention is set to packed."""

    def forward(stream: CachedStream) -> Tensor:
        out = model(
            input_ids=stream.input_ids_T.unsqueeze(0),
            position_ids=stream.position_ids_T.unsqueeze(0),
            use_cache=False,
            logits_to_keep=stream.last_N,
            packed=stream,
        )
        logits_NV: Tensor = out.logits[0]
        return logits_NV

    return forward


def run_written_out(model: PreTrainedModel, copied: PreTrainedModel) -> Forward | None:
    """Return the forward pass of the layers written out here, over the weights of `copied`, or None where there is none.

    Whether they and the head are all of the model is for the caller to try.
    """
    run = find_pass(model.base_model)
    if run is None or copied.device.type != "cpu" or not can_prepack(copied.dtype):
        return None
    kernels = PrepackedKernels(copied.dtype)
    causal = (True,) * copied.config.num_hidden_layers

    def forward(stream: CachedStream) -> Tensor:
        hidden_ND = run(copied.base_model, stream, causal, kernels, stream.last_N)
        return kernels.linear(copied.get_output_embeddings(), hidden_ND)

    return forward


def _longest_prefix(new: Slot, others: Sequence[Slot]) -> tuple[Slot, int]:
    """Return the slot that begins with the most of the new one's first pages, and how many; the last token is no prefix."""
    best, most = new, 0
    for other in others:
        same = _same_pages(new, other, min(len(new.tokens) - 1, len(other.tokens)) // PAGE)
        if same > most:
            best, most = other, same
    return best, most


def _same_pages(one: Slot, other: Slot, limit: int) -> int:
    """Return how many of the first `limit` pages have the same tokens."""
    same = 0
    while same < limit and _page(one, same) == _page(other, same):
        same += 1
    return same


def _page(slot: Slot, number: int) -> list[int]:
    return slot.tokens[number * PAGE : (number + 1) * PAGE]
