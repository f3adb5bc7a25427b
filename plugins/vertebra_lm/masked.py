"""Masked next-token prediction (BehnamGhader and others, 2024, arXiv:2404.05961)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from vertebra.errors import ConfigError
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.features import Features, Ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class MaskedNextToken(CorpusTask):
    """Tokens that are masked, each predicted at the place before it, as a causal model has learnt to.

    It teaches such a model to use what stands behind a token. In training the masks of a window are drawn anew each time
    that it is read; in evaluation they are a function of its number alone.
    """

    name: ClassVar[str] = "mntp"
    metrics: ClassVar[tuple[str, ...]] = ("bits_per_token", "token_hits")
    attention: ClassVar[Literal["causal", "bidirectional"]] = "bidirectional"
    looks_ahead: ClassVar[bool] = True

    def read_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Find the token that masks."""
        super().read_tokenizer(tokenizer)
        self.mask = tokenizer.mask_token_id
        if self.mask is None:
            ids = tokenizer(self.config.mask_token, add_special_tokens=False)["input_ids"]
            if len(ids) != 1:
                raise ConfigError(
                    f"task.mask_token='{self.config.mask_token}' is {len(ids)} tokens of this backbone; it must be one."
                )
            [self.mask] = ids

    def piece(self, ids: Ids, following: Ids, number: int) -> Features:
        """Return a document's tokens in a window, some of them masked."""
        whole = Features(ids, note={"ids": ids.tolist()})
        return self._masked(whole, np.random.default_rng(number))

    def complete(self, features: Sequence[Features], seed: int) -> Sequence[Features]:
        """Draw other masks, as many."""
        generator = np.random.default_rng(seed)
        return [self._masked(one, generator) for one in features]

    def _masked(self, features: Features, generator: np.random.Generator) -> Features:
        ids = np.asarray(features.note["ids"], dtype=np.int32)
        # The first token has none before it that could predict it.
        count = min(len(ids) - 1, max(1, round(self.config.masked * len(ids))))
        places = 1 + np.sort(generator.permutation(len(ids) - 1)[:count])
        masked = ids.copy()
        masked[places] = self.mask
        return replace(features, input_ids=masked, positions=(places - 1).astype(np.int32), target=ids[places])
