"""Two texts as one sequence: first text, separator, second text, separator.

The first one stands before the second so that under causal attention every token of the second has read it, and the last
token both. A text pair that is too long loses tokens of the second text; of the first, only what is over half the room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vertebra.tasks.features import Ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SEPARATOR = "\n"


@dataclass(frozen=True)
class Pair:
    """Token ids (L,) of a text pair; the first `head` of them are the first text with its separator."""

    ids: Ids
    head: int
    offsets_C2: NDArray[np.int32]
    """Where the C tokens of the second text begin and end, in its characters."""


def encode_pairs(first: str, seconds: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Pair]:
    """Return the pairs of one text with each of the others."""
    encoded = tokenizer(
        [first, SEPARATOR, *seconds],
        add_special_tokens=False,
        split_special_tokens=True,  # what a user wrote as <|endoftext|> is text
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,  # over-long texts are cut later
    )
    (first_ids, break_ids, *second_ids), offsets = encoded["input_ids"], encoded["offset_mapping"][2:]
    separator = break_ids[-1:] or [tokenizer.eos_token_id or 0]
    return [
        Pair(
            ids=np.asarray([*first_ids, *separator, *ids, *separator], dtype=np.int32),
            head=len(first_ids) + 1,
            offsets_C2=np.asarray(places, dtype=np.int32).reshape(-1, 2),
        )
        for ids, places in zip(second_ids, offsets, strict=True)
    ]


def shortened_head(ids: Ids, head: int, limit: int) -> Ids:
    """Return the first text of a pair with its separator, cut to at most half of `limit` tokens."""
    room = max(1, limit // 2)
    return ids[:head] if head <= room else np.concatenate([ids[: room - 1], ids[head - 1 : head]])
