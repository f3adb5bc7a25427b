"""Language modelling: causal, and where it is asked for, both ways besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from vertebra.tasks.baseline import Baseline
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.features import Features, Ids, MakePiece
from vertebra_lm.config import LanguageModellingConfig
from vertebra_lm.masking import Masking
from vertebra_lm.ngram import FiveGram
from vertebra_lm.unigram import Unigram

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class LanguageModelling(CorpusTask):
    """The next token, at every place of a text.

    With `task.both_ways` the same weights also learn to see all of a text: as often as that says, an epoch has each window
    once more, read both ways in all layers, with tokens masked and predicted at the place before them (Charpentier and Samuel
    2024, arXiv:2410.24159). It is evaluated causally.
    """

    name: ClassVar[str] = "lm"
    metrics: ClassVar[tuple[str, ...]] = ("bits_per_byte", "bits_per_token", "token_hits")

    def __init__(self, config: LanguageModellingConfig | None = None) -> None:
        super().__init__(config or LanguageModellingConfig())

    @property
    def teaches_both_ways(self) -> bool:
        """Whether windows are read both ways besides."""
        return bool(self.config.both_ways)

    def read_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Find the token that masks, where one is needed."""
        super().read_tokenizer(tokenizer)
        self.masking = Masking(tokenizer, self.config) if self.config.both_ways else None

    def piece(self, ids: Ids, following: Ids, number: int) -> Features:
        """Return a document's tokens in a window, each with the one behind it as its target."""
        return Features(ids, target=following, positions=np.arange(len(ids), dtype=np.int32))

    def masked_piece(self, ids: Ids, following: Ids, number: int) -> Features:
        """Return a document's tokens in a window, some of them masked, to be read both ways."""
        assert self.masking is not None
        return replace(self.masking.piece(ids, number), attention="bidirectional")

    def training_pieces(self) -> Sequence[MakePiece]:
        """Return what makes the pieces of an epoch: all windows causally, and as often as is asked for both ways."""
        return [self.piece, *[self.masked_piece] * self.config.both_ways]

    def complete(self, features: Sequence[Features], seed: int) -> Sequence[Features]:
        """Draw other masks, as many, where there are any."""
        masked = self.masking is not None and any(one.attention is not None for one in features)
        return self.masking.again(features, seed) if self.masking is not None and masked else features

    def baselines(self) -> Sequence[Baseline]:
        """Return what knows how frequent tokens are, and how frequent after others."""
        return [Unigram(self), FiveGram(self)]
