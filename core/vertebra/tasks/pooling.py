"""Pooling: the hidden states of a sequence become one.

Letters in names: P positions that the head reads, N sequences, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from vertebra.tasks.heads import BatchHead
from vertebra.transfer import send

if TYPE_CHECKING:
    from vertebra.engine.packing import PackedBatch

Pooling = Literal["mean", "last", "attention"]


def pooled(pooling: Pooling, width: int, layers: nn.Module) -> nn.Module:
    """Return a head that pools and then runs `layers`; `last` needs no pooling, for it reads one position a sequence."""
    if pooling == "last":
        return layers
    return PooledHead(MeanPooling() if pooling == "mean" else AttentionPooling(width), layers)


class PooledHead(BatchHead):
    """Makes one vector of each sequence's positions, and runs `layers` on these."""

    def __init__(self, pool: nn.Module, layers: nn.Module) -> None:
        super().__init__()
        self.pool, self.layers = pool, layers

    def forward(self, hidden_PD: Tensor, batch: PackedBatch) -> Tensor:
        """Map (P, D) to (N, …)."""
        outputs: Tensor = self.layers(self.pool(hidden_PD.float(), batch.position_counts))
        return outputs


class MeanPooling(nn.Module):
    """The mean over a sequence's positions; zeros for a sequence without any."""

    def forward(self, hidden_PD: Tensor, counts: Sequence[int]) -> Tensor:
        """Map (P, D) to (N, D); `counts` says how many of the positions each sequence has, one behind the other."""
        counts_N = send(counts, hidden_PD.device)
        owners_P = owners(counts_N, len(hidden_PD))
        return sums(hidden_PD, owners_P, len(counts)) / counts_N.clamp(min=1).unsqueeze(1)


class AttentionPooling(nn.Module):
    """A mean with weights that a linear layer gives each position: softmax over the sequence.

    The layer starts at zero, so that training starts from the plain mean. This is the attention of Yang et al. (2016),
    "Hierarchical attention networks for document classification", without their hidden layer: the backbone has many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, hidden_PD: Tensor, counts: Sequence[int]) -> Tensor:
        """Map (P, D) to (N, D); `counts` says how many of the positions each sequence has, one behind the other."""
        owners_P = owners(send(counts, hidden_PD.device), len(hidden_PD))
        scores_P = self.score(hidden_PD).float().squeeze(1)
        # Less the largest score of the sequence, so that no exponential overflows.
        largest_N = scores_P.new_full((len(counts),), -torch.inf)
        largest_N = largest_N.scatter_reduce(0, owners_P, scores_P.detach(), "amax")
        weights_P1 = (scores_P - largest_N[owners_P]).exp().unsqueeze(1)
        totals_N1 = sums(weights_P1, owners_P, len(counts))
        return sums(hidden_PD * weights_P1, owners_P, len(counts)) / totals_N1.clamp(min=1)


def owners(counts_N: Tensor, positions: int) -> Tensor:
    """Return for each position (P,) the number of its sequence; that P is known spares a GPU from being waited for."""
    return torch.repeat_interleave(counts_N, output_size=positions)


def sums(values_PX: Tensor, owners_P: Tensor, sequences: int) -> Tensor:
    """Return the sum of each sequence's values, (N, X)."""
    return values_PX.new_zeros(sequences, values_PX.shape[1]).index_add(0, owners_P, values_PX)
