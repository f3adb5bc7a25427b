"""Sub-tokens: which of a tokenizer's tokens speaks for which word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from vertebra.tasks.features import Ids
from vertebra.tasks.words import spaced

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LabelOn = Literal["last", "first"]


def align(words: Sequence[str], tokenizer: PreTrainedTokenizerBase, label_on: LabelOn) -> tuple[Ids, Ids]:
    """Return the token ids of words and, for each word, the place of the one token that carries its label.

    The words are read as one text. Where that leaves a word without a token of its own (one token over two words, as
    happens between Chinese characters; an empty word), each word is read alone, and a word that has no token even then
    is given that of a space. No words at all are one such token, and no place.
    """
    pieces = spaced(words)
    ids, carriers = _tokenize(pieces, words, tokenizer, label_on)
    positions = list(carriers.values())
    if not words or len(positions) < len(words):
        ids, positions = _align_one_by_one(pieces, words, tokenizer, label_on)
    return np.asarray(ids, dtype=np.int32), np.asarray(positions, dtype=np.int32)


def _align_one_by_one(
    pieces: Sequence[str], words: Sequence[str], tokenizer: PreTrainedTokenizerBase, label_on: LabelOn
) -> tuple[list[int], list[int]]:
    ids: list[int] = []
    positions: list[int] = []
    for piece, word in zip(pieces, words, strict=True):
        part, carriers = _tokenize([piece], [word], tokenizer, label_on)
        part = part or _stand_in(tokenizer)
        positions.append(len(ids) + carriers.get(0, len(part) - 1))
        ids += part
    return ids or _stand_in(tokenizer), positions


def _tokenize(
    pieces: Sequence[str], words: Sequence[str], tokenizer: PreTrainedTokenizerBase, label_on: LabelOn
) -> tuple[list[int], dict[int, int]]:
    """Return the token ids of the pieces as one text, and the label-carrying token of each word that has one.

    A token belongs to the word that its last character is in: a leading space does not count, a token over two words
    is the later one's, and the several tokens of one character are all of its word.
    """
    owners: list[int] = []
    for number, (piece, word) in enumerate(zip(pieces, words, strict=True)):
        owners += [-1] * (len(piece) - len(word)) + [number] * len(word)
    encoded = tokenizer(
        "".join(pieces),
        add_special_tokens=False,
        split_special_tokens=True,  # what a user wrote as <|endoftext|> is text
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,  # over-long texts are the caller's to cut
    )
    carriers: dict[int, int] = {}
    for position, (start, end) in enumerate(encoded["offset_mapping"]):
        owner = owners[end - 1] if start < end else -1
        if owner >= 0 and (label_on == "last" or owner not in carriers):
            carriers[owner] = position
    return list(encoded["input_ids"]), carriers


def _stand_in(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the token of a space or, where the tokenizer has none, the end of text."""
    ids: list[int] = tokenizer(" ", add_special_tokens=False)["input_ids"]
    return ids[-1:] or [tokenizer.eos_token_id or 0]
