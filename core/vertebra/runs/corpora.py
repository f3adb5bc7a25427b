"""The splits of a corpus, as a run works on them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from vertebra.config.schema import DataConfig
from vertebra.data.cache import Encoded
from vertebra.data.corpus import Corpus, CorpusReader, find_texts
from vertebra.data.keys import hashed
from vertebra.data.load import Splits
from vertebra.data.splits import SPLITS, TRAIN, VALID
from vertebra.data.windows import Pieces, Readings, WindowRows, Windows, n_windows
from vertebra.errors import DataError
from vertebra.host.manager import Host
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.features import MakePiece
from vertebra.tasks.token_bytes import TokenBytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOLERANCE = 1e-3
"""The share of a corpus's bytes from which a difference is told."""


def read_corpora(
    task: CorpusTask,
    data: DataConfig,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    host: Host,
    *,
    for_training: bool = True,
) -> tuple[Splits, dict[str, Encoded]]:
    """Return the rows and the features of each split, made of a corpus when they are asked for.

    Where the data has no validation split, the last windows of the training corpus become one. Training texts are needed
    only `for_training`.
    """
    if task.config.window > context:
        raise DataError(f"task.window={task.config.window} is more than the backbone's context of {context} tokens.")
    task.read_tokenizer(tokenizer)
    reader = CorpusReader(tokenizer, data, column=task.config.column, documents=task.config.documents)
    found = find_texts(data, host)
    corpora = {split: reader.read(found[split], f"tokenizing {split}") for split in SPLITS if split in found}
    if TRAIN not in corpora and for_training:
        raise DataError(f"The data at '{data.path}' has no training texts. Set data.splits.train=FILE.")
    parts = {split: (corpus, slice(None, data.limit)) for split, corpus in corpora.items()}
    notes = [f"{split}: {note}" for split, corpus in corpora.items() for note in corpus.notes]
    if TRAIN in corpora and VALID not in corpora and data.valid_fraction > 0:
        total = min(n_windows(corpora[TRAIN], task.config.window), data.limit or 1 << 62)
        taken = min(max(1, round(data.valid_fraction * total)), total - 1)
        if taken < 1:
            raise DataError(
                "The corpus is a single window: there is nothing to validate on. Set data.valid_fraction=0."
            )
        parts |= {
            TRAIN: (corpora[TRAIN], slice(0, total - taken)),
            VALID: (corpora[TRAIN], slice(total - taken, total)),
        }
        notes.append(f"valid: the last {data.valid_fraction:.0%} of the training windows ({taken})")
    scored = {split: corpus for split, (corpus, _) in parts.items() if split != TRAIN}
    notes += [f"{split}: {note}" for split, corpus in scored.items() for note in miscounted(task.bytes, corpus)]
    end_of_text = int(tokenizer.eos_token_id)

    def cut(split: str, make: MakePiece) -> Windows:
        corpus, part = parts[split]
        return Windows(corpus, task.config.window, end_of_text, make, part)

    windows = {split: cut(split, task.piece) for split in SPLITS if split in parts}
    rows = {
        split: WindowRows(some, partial(task.row, with_text=split != TRAIN), split) for split, some in windows.items()
    }
    fingerprint = hashed({split: [corpus.fingerprint, str(part)] for split, (corpus, part) in parts.items()})
    encoded = {split: Encoded(Pieces(some), 0, some) for split, some in windows.items()}
    if TRAIN in windows:
        readings = [cut(TRAIN, make) for make in task.training_pieces()]
        encoded[TRAIN] = replace(encoded[TRAIN], examples=Readings(readings))
    return Splits(rows, fingerprint, tuple(notes)), encoded


def miscounted(token_bytes: TokenBytes, corpus: Corpus) -> list[str]:
    """Say where tokens do not have the bytes of the texts that they were made of, by which losses are told."""
    counted = token_bytes.count(corpus.tokens)
    if abs(counted - corpus.n_bytes) <= TOLERANCE * corpus.n_bytes:
        return []
    return [
        f"its texts have {corpus.n_bytes} bytes, and its tokens stand for {counted}: the tokenizer changes what it reads, and "
        "bits for each byte are of what it makes of it"
    ]
