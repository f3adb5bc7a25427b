"""One step of many sequences as one stream: all waiting prompts whole, and one token of each running sequence.

Handed to a model's attention layers as the keyword argument `packed`.

Letters: T tokens in the stream, N sequences, P pages, B tokens in a page, J pages of the longest sequence, H query heads, G
key-value heads, R = H / G, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from vertebra.engine.generation.cache import PAGE, KeyValues, Slot
from vertebra.transfer import send


@dataclass(frozen=True)
class Prompt:
    """A part of the stream with more than one token of a sequence."""

    start: int
    stop: int
    past: int
    """How many tokens of the sequence come before, already cached."""
    pages: Tensor


class CachedStream:
    """The tokens that are not cached yet, of every slot, one slot behind the other; slots must have their pages."""

    def __init__(
        self,
        slots: Sequence[Slot],
        contents: KeyValues,
        n_pages: int,
        copies: Sequence[tuple[int, int]],
        device: torch.device,
    ) -> None:
        """`copies` are pages, (from, to), of prefixes that slots share; they are copied when their source is there."""
        self._contents = contents
        self._n_pages = n_pages
        self._device = device
        self.input_ids_T = self._tensor([token for slot in slots for token in slot.tokens[slot.cached :]])
        positions = [place for slot in slots for place in range(slot.cached, len(slot.tokens))]
        self.position_ids_T = self._tensor(positions)
        ends = list(accumulate(len(slot.tokens) - slot.cached for slot in slots))
        self.last_N = self._tensor(ends) - 1
        """Where in the stream the last token of each sequence is."""
        self._page_T = self._tensor(
            [slot.pages[place // PAGE] for slot in slots for place in range(slot.cached, len(slot.tokens))]
        )
        self._offset_T = self.position_ids_T % PAGE
        self._copies = self._tensor(copies).unbind(dim=1) if copies else None
        self._prompts = [
            Prompt(start, end, slot.cached, self._tensor(slot.pages))
            for slot, start, end in zip(slots, [0, *ends], ends, strict=False)
            if end - start > 1
        ]
        self._length_N = self._tensor([len(slot.tokens) for slot in slots])
        self._longest = max(len(slot.pages) for slot in slots)
        rows, numbers = [0] * n_pages, [0] * n_pages
        for row, slot in enumerate(slots):
            for number, page in enumerate(slot.pages):
                rows[page], numbers[page] = row, number
        self._row_P, self._number_P = self._tensor(rows), self._tensor(numbers)
        self._biases: dict[tuple[int | None, torch.dtype], Tensor] = {}
        self._scores: dict[tuple[tuple[int, ...], torch.dtype], Tensor] = {}
        self.windows: dict[int, int | None] = {}
        """The sliding window that each layer asked for."""

    def attend(
        self,
        layer: int,
        query_THd: Tensor,
        key_TGd: Tensor,
        value_TGd: Tensor,
        scaling: float | None,
        window: int | None,
    ) -> Tensor:
        """Cache keys and values (T, G, d) of a layer and attend to them with queries (T, H, d); returns (T, H, d)."""
        self.windows[layer] = window
        keys_PGBd, values_PGBd = self._contents.layer(layer, key_TGd, value_TGd, self._n_pages)
        keys_PGBd[self._page_T, :, self._offset_T] = key_TGd
        values_PGBd[self._page_T, :, self._offset_T] = value_TGd
        if self._copies is not None:
            source, target = self._copies
            keys_PGBd[target], values_PGBd[target] = keys_PGBd[source], values_PGBd[source]
        scaling = query_THd.shape[-1] ** -0.5 if scaling is None else scaling
        if not self._prompts:
            return self._last_tokens(query_THd, keys_PGBd, values_PGBd, scaling, window)
        out_THd = query_THd.new_empty(*query_THd.shape[:2], value_TGd.shape[-1])
        out_THd[self.last_N] = self._last_tokens(query_THd[self.last_N], keys_PGBd, values_PGBd, scaling, window)
        for prompt in self._prompts:
            out_THd[prompt.start : prompt.stop] = _whole_prompt(
                prompt, query_THd[prompt.start : prompt.stop], keys_PGBd, values_PGBd, scaling, window
            )
        return out_THd

    def _last_tokens(
        self, query_NHd: Tensor, keys_PGBd: Tensor, values_PGBd: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Attend with one query for each sequence: two products over all pages, the softmax over the pages of a row."""
        n_rows, n_pages, n_heads = len(query_NHd), self._n_pages, keys_PGBd.shape[1]
        keys_XBd, values_XBd = (pool[:n_pages].flatten(0, 1) for pool in (keys_PGBd, values_PGBd))
        query_XRd = query_NHd.index_select(0, self._row_P).view(n_pages * n_heads, -1, query_NHd.shape[-1])
        scores_PGRB = torch.bmm(query_XRd, keys_XBd.transpose(1, 2)).view(n_pages, n_heads, -1, PAGE)
        scores_PGRB = torch.add(self._bias(window, query_NHd.dtype), scores_PGRB, alpha=scaling)
        scores_NGRJB = self._empty_scores((n_rows, *scores_PGRB.shape[1:3], self._longest, PAGE), query_NHd.dtype)
        scores_NGRJB[self._row_P, :, :, self._number_P] = scores_PGRB
        weights_NGRJB = scores_NGRJB.flatten(3).softmax(dim=-1).view_as(scores_NGRJB)
        weights_XRB = weights_NGRJB[self._row_P, :, :, self._number_P].flatten(0, 1)
        parts_PHd = torch.bmm(weights_XRB, values_XBd).view(n_pages, query_NHd.shape[1], -1)
        out_NHd = parts_PHd.new_zeros(n_rows, *parts_PHd.shape[1:], dtype=torch.float32)
        return out_NHd.index_add_(0, self._row_P, parts_PHd.float()).to(query_NHd.dtype)

    def _empty_scores(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return scores that are -inf where a sequence has no page; layers of one shape fill the same places again."""
        if (shape, dtype) not in self._scores:
            self._scores[shape, dtype] = torch.full(shape, -torch.inf, dtype=dtype, device=self._device)
        return self._scores[shape, dtype]

    def _bias(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """Return (P, 1, 1, B), -inf where a page has no token yet, or one behind the sliding window."""
        bias = self._biases.get((window, dtype))
        if bias is None:
            place_PB = self._number_P[:, None] * PAGE + torch.arange(PAGE, device=self._device)
            length_P1 = self._length_N[self._row_P][:, None]
            hidden_PB = place_PB >= length_P1
            if window is not None:
                hidden_PB |= place_PB < length_P1 - window
            bias = torch.zeros(hidden_PB.shape, dtype=dtype, device=self._device).masked_fill_(hidden_PB, -torch.inf)
            bias = self._biases[window, dtype] = bias[:, None, None]
        return bias

    def _tensor(self, values: Sequence[object]) -> Tensor:
        return send(torch.tensor(values, dtype=torch.long), self._device)


def _whole_prompt(
    prompt: Prompt, query_THd: Tensor, keys_PGBd: Tensor, values_PGBd: Tensor, scaling: float, window: int | None
) -> Tensor:
    """Attend with all tokens of a prompt to what is cached of it before and to itself."""
    length = prompt.past + len(query_THd)
    # bf16 attention kernels for the CPU are several times slower on short sequences than fp32 ones.
    dtype = torch.float32 if query_THd.device.type == "cpu" else query_THd.dtype
    key_1GLd, value_1GLd = (
        pool[prompt.pages].transpose(0, 1).flatten(1, 2)[None, :, :length].to(dtype)
        for pool in (keys_PGBd, values_PGBd)
    )
    plain = prompt.past == 0 and (window is None or length <= window)
    mask = None if plain else _mask(prompt.past, length, window, query_THd.device)
    out_1HTd = F.scaled_dot_product_attention(
        query_THd.transpose(0, 1)[None].to(dtype),
        key_1GLd,
        value_1GLd,
        attn_mask=mask,
        is_causal=plain,
        scale=scaling,
        enable_gqa=query_THd.shape[1] != key_1GLd.shape[1],
    )
    return out_1HTd[0].transpose(0, 1).to(query_THd.dtype)


def _mask(past: int, length: int, window: int | None, device: torch.device) -> Tensor:
    """Return (length - past, length), true where a query may look: back, and no farther than the window."""
    distance = torch.arange(past, length, device=device)[:, None] - torch.arange(length, device=device)
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)
