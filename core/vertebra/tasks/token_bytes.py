"""How many bytes of text a token stands for, so that losses can be told for each byte, whatever the tokenizer is.

Letters: V vocabulary, T tokens.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vertebra.tasks.features import Ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")
_CHUNK = 1 << 22
"""Tokens that are counted at once, of a corpus that may be larger than memory."""


class TokenBytes:
    """The bytes of UTF-8 of each token of a vocabulary; special ones have none."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.end = tokenizer.eos_token_id
        self.inside_V = np.zeros(len(tokenizer), dtype=np.int64)
        """Of a token that stands between others."""
        special = set(tokenizer.all_special_tokens)
        vocabulary = [(token, number) for token, number in tokenizer.get_vocab().items() if token not in special]
        numbers = [number for _, number in vocabulary]
        backend = tokenizer.backend_tokenizer.to_str()
        if '"ByteLevel"' in backend:  # a letter of a token is a byte
            self.inside_V[numbers] = [len(token) for token, _ in vocabulary]
            self.first_V = self.inside_V
            return
        # What a token adds to its neighbours' text: alone, many lose a space that they have in a text, or gain one.
        beside = tokenizer("a", add_special_tokens=False)["input_ids"][-1]
        before, pair = _decoded_bytes(tokenizer, [[beside], [beside, beside]])
        self.inside_V[numbers] = _decoded_bytes(tokenizer, [[beside, one, beside] for one in numbers]) - pair
        self.first_V = np.zeros_like(self.inside_V)
        """Of a token that begins a text."""
        self.first_V[numbers] = _decoded_bytes(tokenizer, [[one, beside] for one in numbers]) - (pair - before)
        if '"ByteFallback"' in backend:  # one byte of a letter is no text, and decoded as a mark for that
            bytes_alone = [number for token, number in vocabulary if _BYTE.fullmatch(token)]
            self.inside_V[bytes_alone] = self.first_V[bytes_alone] = 1

    def count(self, tokens_T: Ids | NDArray[np.integer]) -> int:
        """Return how many bytes the tokens behind the first one stand for; one behind the end of a text begins the next."""
        total = 0
        for start in range(0, len(tokens_T) - 1, _CHUNK):
            part = tokens_T[start : start + _CHUNK + 1]
            begins = part[:-1] == self.end
            total += int(np.where(begins, self.first_V[part[1:]], self.inside_V[part[1:]]).sum())
        return total


def _decoded_bytes(tokenizer: PreTrainedTokenizerBase, sequences: list[list[int]]) -> NDArray[np.int64]:
    texts = tokenizer.backend_tokenizer.decode_batch(sequences, skip_special_tokens=False)
    return np.asarray([len(text.encode()) for text in texts], dtype=np.int64)
