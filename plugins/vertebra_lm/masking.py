"""Masked next tokens: each predicted at the place before it, as a causal model has learnt to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vertebra.errors import ConfigError
from vertebra.tasks.features import Features, Ids
from vertebra_lm.config import MaskingConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Masking:
    """Masks a share of a sequence's tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: MaskingConfig) -> None:
        """Find the token that masks; `ConfigError` where `task.mask_token` is not one token."""
        self.share = config.masked
        self.token = tokenizer.mask_token_id
        if self.token is None:
            ids = tokenizer(config.mask_token, add_special_tokens=False)["input_ids"]
            if len(ids) != 1:
                raise ConfigError(
                    f"task.mask_token='{config.mask_token}' is {len(ids)} tokens of this backbone; it must be one."
                )
            [self.token] = ids

    def piece(self, ids: Ids, number: int) -> Features:
        """Return tokens of which some are masked, the same ones for the same number of the piece."""
        return self._masked(Features(ids, note={"ids": ids.tolist()}), np.random.default_rng(number))

    def again(self, features: Sequence[Features], seed: int) -> list[Features]:
        """Return the features with other tokens masked, as many."""
        generator = np.random.default_rng(seed)
        return [self._masked(one, generator) for one in features]

    def _masked(self, features: Features, generator: np.random.Generator) -> Features:
        ids = np.asarray(features.note["ids"], dtype=np.int32)
        # The first token has none before it that could predict it.
        count = min(len(ids) - 1, max(1, round(self.share * len(ids))))
        places = 1 + np.sort(generator.permutation(len(ids) - 1)[:count])
        masked = ids.copy()
        masked[places] = self.token
        return replace(features, input_ids=masked, positions=(places - 1).astype(np.int32), target=ids[places])
