"""Heads: what maps hidden states to a task's outputs.

Letters: P positions that the head reads, D hidden width, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from vertebra.engine.cross_entropy import linear_cross_entropy
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


class LanguageModelHead(BatchHead):
    """The matrix of a language model that says how likely each next token is: the backbone's own, often its embedding.

    Its output is the mean cross-entropy with the batch's targets, (1,), and not the logits (P, V), which are larger than
    all else in a step.
    """

    def __init__(self, output: nn.Module, label_smoothing: float = 0.0) -> None:
        """`output` has a `weight` (V, D) and may have a `bias` (V,); `label_smoothing` acts in training alone."""
        super().__init__()
        self.output = output
        self.label_smoothing = label_smoothing

    def forward(self, hidden_PD: Tensor, batch: PackedBatch) -> Tensor:
        """Return the loss, (1,); 0 for a batch without targets."""
        if batch.targets is None:
            return hidden_PD.new_zeros(1)
        smoothing = self.label_smoothing if self.training else 0.0
        weight, bias = self.output.get_parameter("weight"), getattr(self.output, "bias", None)
        return linear_cross_entropy(hidden_PD, weight, bias, batch.targets, smoothing).reshape(1)


def run_head(head: nn.Module, hidden_PD: Tensor, batch: PackedBatch) -> Tensor:
    """Return what a head of either kind makes of a batch's hidden states."""
    outputs: Tensor = head(hidden_PD, batch) if isinstance(head, BatchHead) else head(hidden_PD)
    return outputs
