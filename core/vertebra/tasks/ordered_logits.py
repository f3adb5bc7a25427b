"""Labels of an ordered scale: one number for a text, and thresholds that part the labels.

Letters in names: N sequences, D hidden width, L labels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class OrderedLogits(nn.Module):
    """Maps hidden states (N, D) to the log-probabilities (N, L) of L ordered labels.

    The proportional-odds model (McCullagh, 1980, "Regression models for ordinal data"): the probability of a label up to
    the k-th is sigmoid(threshold_k − score). The thresholds rise by what they are made of, so that every label has a
    probability above zero. They start where all labels are equally likely at a score of zero.
    """

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False)
        start = torch.logit(torch.arange(1, labels) / labels)
        self.first = nn.Parameter(start[:1].clone())
        self.gaps = nn.Parameter(torch.log(torch.expm1(start.diff())))  # the inverse of softplus

    def forward(self, hidden_ND: Tensor) -> Tensor:
        """Return log-probabilities, in float32 whatever the precision of the rest."""
        rises = F.softplus(self.gaps.float())
        thresholds = torch.cat([self.first.float(), self.first.float() + rises.cumsum(0)])
        above_NK = thresholds - self.score(hidden_ND).float()  # K = L - 1
        # σ(a) − σ(b) = σ(a) · σ(−b) · (1 − exp(b − a)): no difference of nearly equal numbers.
        up_to_NL = F.pad(F.logsigmoid(above_NK), (0, 1))
        from_NL = F.pad(F.logsigmoid(-above_NK), (1, 0))
        between_L = F.pad(torch.log(-torch.expm1(-rises)), (1, 1))
        return up_to_NL + from_NL + between_L
