"""Heads: what maps hidden states to a task's outputs.

Letters: P positions that the head reads, D hidden width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from vertebra.engine.dropout import keep_mask

if TYPE_CHECKING:
    from vertebra.engine.packing import PackedBatch


class BatchHead(nn.Module, ABC):
    """A head that must know which positions belong together, such as one that pools a sequence.

    Any other module is a head, too, and is called with the hidden states alone.
    """

    @abstractmethod
    def forward(self, hidden_PD: Tensor, batch: PackedBatch) -> Tensor:
        """Map hidden states to outputs; `batch.position_counts` says how many of the P positions each sequence has."""


class Dropout(nn.Dropout):
    """Dropout by masks that cost little on the CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `input` with a share `p` of its values dropped in training, and the others scaled up."""
        return input * keep_mask(input, self.p) if self.training and self.p else input


def run_head(head: nn.Module, hidden_PD: Tensor, batch: PackedBatch) -> Tensor:
    """Return what a head of either kind makes of a batch's hidden states."""
    outputs: Tensor = head(hidden_PD, batch) if isinstance(head, BatchHead) else head(hidden_PD)
    return outputs
