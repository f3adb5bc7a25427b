"""The baseline: how frequent each token is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from vertebra.tasks.baseline import Baseline
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.task import Row


class Unigram(Baseline):
    """Each token by its share of the training tokens, one added to every count (Laplace)."""

    name: ClassVar[str] = "unigram"
    summary: ClassVar[str] = "how frequent each token is, whatever stands before it"

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        """Count the training tokens."""
        assert isinstance(self.task, CorpusTask)
        counts = np.ones(len(self.task.tokenizer))
        for row in train:
            counts += np.bincount(row["tokens"], minlength=len(counts))
        self.nats_V = np.log(counts.sum()) - np.log(counts)
        self.likeliest = int(self.nats_V.argmin())

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """Return the loss of each window."""
        return [
            {
                "nats": float(self.nats_V[row["tokens"]].sum()),
                "tokens": len(row["tokens"]),
                "right": int((row["tokens"] == self.likeliest).sum()),
            }
            for row in rows
        ]
