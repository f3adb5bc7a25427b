"""A head that reads beside the text which words a candidate shares with its query.

A small backbone hardly learns from a few thousand pairs that it matters which words two texts have in common. Yang, Yih and
Meek (2015), "WikiQA: a challenge dataset for open-domain question answering", give a model of sentences two counts of words
beside its own score; so does this one.

Letters: N candidates of a batch, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vertebra.tasks.heads import BatchHead, Dropout
from vertebra.transfer import send
from vertebra_qa.lexical import Shared

if TYPE_CHECKING:
    from vertebra.engine.packing import PackedBatch

NOTE = "shared"
"""Where features say what their candidate shares with the query."""


def fitted(shared: Sequence[Shared], labels: Sequence[int]) -> Sequence[float]:
    """Return what each of the two numbers adds to the log-odds of being right, by logistic regression."""
    from sklearn.linear_model import LogisticRegression  # slow to import

    weights: list[float] = LogisticRegression(max_iter=1000).fit(list(shared), list(labels)).coef_[0].tolist()
    return weights


class SharedWordsHead(BatchHead):
    """The log-odds that a linear layer reads from the text, and what the shared words add to them.

    What they add begins where a logistic regression on them alone stands: in the few steps of fine-tuning two weights would
    not come far.
    """

    def __init__(self, width: int, dropout: float, weights: Sequence[float]) -> None:
        super().__init__()
        self.text = nn.Sequential(Dropout(dropout), nn.Linear(width, 1))
        self.words = nn.Linear(len(weights), 1, bias=False)
        with torch.no_grad():
            self.words.weight.copy_(torch.tensor([list(weights)]))

    def forward(self, hidden_PD: Tensor, batch: PackedBatch) -> Tensor:
        """Map (N, D) to (N, 1)."""
        shared_N2 = send([one.note[NOTE] for one in batch.features], hidden_PD.device)
        with torch.autocast(hidden_PD.device.type, enabled=False):
            outputs: Tensor = self.text(hidden_PD.float()) + self.words(shared_N2)
        return outputs
