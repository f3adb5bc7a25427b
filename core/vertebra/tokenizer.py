"""Train a byte-level BPE tokenizer: the kind that GPT-2 has, and the one that `nano` is shipped with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
BYTES = 256

WORDS = r"'(?:[sdmt]|ll|ve|re)| ?[\p{L}\p{M}]+| ?\p{N}{1,3}| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's words, except that marks stay with their letters and numbers are cut after three digits."""


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, folder: Path, *, context: int = 1024, progress: bool = False
) -> PreTrainedTokenizerFast:
    """Learn `vocab_size` entries from `texts`, save the tokenizer in `folder` and return it.

    All 256 bytes are entries, so any text survives encoding and decoding. `<|endoftext|>` (id 0) begins, ends and pads.
    `context` is the longest sequence, in tokens, of the models that it is meant for. Raises `ConfigError` for a
    vocabulary that is too small, `DataError` where the texts are too few to fill it.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if vocab_size <= BYTES:
        raise ConfigError(
            f"A vocabulary of {vocab_size} entries is too small: bytes and the end of text take {BYTES + 1}."
        )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.post_processor = processors.ByteLevel(trim_offsets=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=progress,
    )
    bpe.train_from_iterator(texts, trainer=trainer)
    if bpe.get_vocab_size() < vocab_size:
        raise DataError(
            f"The texts give only {bpe.get_vocab_size()} of {vocab_size} entries: give more text or ask for fewer."
        )

    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END_OF_TEXT)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, model_max_length=context, **ends)
    tokenizer.save_pretrained(folder)
    return tokenizer
