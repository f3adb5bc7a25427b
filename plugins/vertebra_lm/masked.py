"""Masked next-token prediction (BehnamGhader and others, 2024, arXiv:2404.05961)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.features import Features, Ids
from vertebra_lm.masking import Masking

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

    def read_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Find the token that masks."""
        super().read_tokenizer(tokenizer)
        self.masking = Masking(tokenizer, self.config)

    def piece(self, ids: Ids, following: Ids, number: int) -> Features:
        """Return a document's tokens in a window, some of them masked."""
        return self.masking.piece(ids, number)

    def complete(self, features: Sequence[Features], seed: int) -> Sequence[Features]:
        """Draw other masks, as many."""
        return self.masking.again(features, seed)
