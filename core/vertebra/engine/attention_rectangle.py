"""Packed attention as one rectangle with a row for each sequence, laid out by the device itself.

For a GPU where no single kernel computes the stream as it lies (fp32, attention dropout): a call costs more there than
padding does. The host need not know where sequences start, so a pass can be recorded for all streams of a size.

Letters: T tokens in the stream, N sequences, L tokens of the longest, H query heads, G key-value heads, d head width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from vertebra.engine.attention_options import Options, reach

if TYPE_CHECKING:
    from vertebra.engine.packing import PackedBatch

DEVICES = ("cuda",)
MOST_PADDING = 4
"""Times the tokens that a rectangle may have in places, and `ANYWAY` beyond that."""
ANYWAY = 1 << 14
LONGEST = 2048
"""Tokens of a sequence, beyond which its mask, L times L, takes more room than a call for each group takes time."""


def is_worth_it(tokens: int, sequences: int, longest: int) -> bool:
    """Whether a rectangle of N · L places, and its mask, are small enough for T tokens."""
    return longest <= LONGEST and sequences * longest <= MOST_PADDING * tokens + ANYWAY


@dataclass(frozen=True)
class Rectangle:
    """Where a stream's tokens stand in a rectangle."""

    tokens_NL: Tensor
    """The stream's token at each place; for padding another one of its sequence, if it has any."""
    is_token_NL: Tensor
    """Whether there is one."""
    places_T: Tensor
    """The place of each token, rows one behind the other."""
    _masks: dict[tuple[bool, int | None], Tensor] = field(default_factory=dict)

    @staticmethod
    def of(starts: Tensor, tokens: int, longest: int) -> Rectangle:
        """Lay out sequences that start at `starts` (N+1,), the last entry being T; some may be empty."""
        starts = starts.long()
        place_L = torch.arange(longest, device=starts.device)
        token_NL = starts[:-1, None] + place_L
        stop_N1 = starts[1:, None]
        token_T = torch.arange(tokens, device=starts.device)
        row_T = torch.searchsorted(starts[1:].contiguous(), token_T, right=True)
        return Rectangle(
            torch.minimum(token_NL, stop_N1 - 1).clamp(0, tokens - 1),
            token_NL < stop_N1,
            row_T * longest + token_T - starts[row_T],
        )

    def mask(self, causal: bool, window: int | None) -> Tensor:
        """Return (N, 1, L, L), true where a query may look.

        Padding sees at least itself, or its row would have no sum to divide by.
        """
        if (causal, window) not in self._masks:
            longest, device = self.is_token_NL.shape[1], self.is_token_NL.device
            itself_LL = torch.eye(longest, dtype=torch.bool, device=device)
            seen_NLL = (reach(longest, causal, window, device) & self.is_token_NL[:, None, :]) | itself_LL
            self._masks[causal, window] = seen_NLL[:, None]
        return self._masks[causal, window]


def attend_in_rectangle(
    query_1HTd: Tensor,
    key_1GTd: Tensor,
    value_1GTd: Tensor,
    packed: PackedBatch,
    options: Options,
) -> Tensor | None:
    """Return the attention within each sequence of the stream, (1, T, H, d).

    None off the GPU, and where the stream's rectangle would be mostly padding.
    """
    rectangle = packed.rectangle if query_1HTd.device.type in DEVICES else None
    if rectangle is None:
        return None
    n_rows, longest = rectangle.tokens_NL.shape
    query_NHLd, key_NGLd, value_NGLd = (
        one[0].index_select(1, rectangle.tokens_NL.flatten()).view(one.shape[1], n_rows, longest, -1).transpose(0, 1)
        for one in (query_1HTd, key_1GTd, value_1GTd)
    )
    out_NHLd = F.scaled_dot_product_attention(
        query_NHLd,
        key_NGLd,
        value_NGLd,
        attn_mask=rectangle.mask(options.causal, options.window),
        dropout_p=options.dropout,
        scale=options.scale,
        enable_gqa=query_NHLd.shape[1] != key_NGLd.shape[1],
    )
    return out_NHLd.transpose(1, 2).flatten(0, 1).index_select(0, rectangle.places_T).unsqueeze(0)
