"""Causal language modelling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from vertebra.tasks.baseline import Baseline
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.features import Features, Ids
from vertebra_lm.ngram import FiveGram
from vertebra_lm.unigram import Unigram


class LanguageModelling(CorpusTask):
    """The next token, at every place of a text."""

    name: ClassVar[str] = "lm"
    metrics: ClassVar[tuple[str, ...]] = ("bits_per_byte", "bits_per_token", "token_hits")

    def piece(self, ids: Ids, following: Ids, number: int) -> Features:
        """Return a document's tokens in a window, each with the one behind it as its target."""
        return Features(ids, target=following, positions=np.arange(len(ids), dtype=np.int32))

    def baselines(self) -> Sequence[Baseline]:
        """Return what knows how frequent tokens are, and how frequent after others."""
        return [Unigram(self), FiveGram(self)]
