"""The shared backbone: a causal decoder that turns a packed batch into hidden states.

Letters: T tokens in the packed stream, N sequences, D hidden width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vertebra.engine.packing import PackedBatch

Attention = Literal["causal", "bidirectional"]
Packing = Literal["packed", "padded"]


@dataclass(frozen=True)
class BackboneInfo:
    """What a reader of the results must know of a backbone."""

    name: str
    parameters: int
    init: Literal["pretrained", "random"]
    attention: Attention
    packing: Packing
    context: int
    fingerprint: str
    """A hash of configuration, tokenizer and, where they are pretrained, weights."""
    notes: tuple[str, ...]


class Backbone(nn.Module):
    """A causal decoder without its language-model head, read through packed batches."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, info: BackboneInfo) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.info = info

    @property
    def width(self) -> int:
        """D, the width of the hidden states."""
        return int(self.model.config.hidden_size)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Return the hidden states (T, D) of the last layer, in the stream's order."""
        run = run_packed if self.info.packing == "packed" else run_padded
        return run(self.model, batch, self.info.attention)


def run_packed(model: PreTrainedModel, batch: PackedBatch, attention: Attention) -> Tensor:
    """Run the stream as one row through a model whose attention keeps sequences apart: (T, D)."""
    hidden_1TD: Tensor = model(
        input_ids=batch.input_ids_T.unsqueeze(0),
        position_ids=batch.position_ids_T.unsqueeze(0),
        use_cache=False,
        packed=batch,
        causal=attention == "causal",
    ).last_hidden_state
    return hidden_1TD.squeeze(0)


def run_padded(model: PreTrainedModel, batch: PackedBatch, attention: Attention) -> Tensor:
    """Run one row for each sequence, padded on the right, and take the padding out again: (T, D)."""
    longest = max(batch.lengths)
    real_NL = torch.arange(longest) < torch.tensor(batch.lengths)[:, None]
    real_NL = real_NL.to(batch.input_ids_T.device)
    ids_NL = torch.zeros_like(real_NL, dtype=torch.long)
    ids_NL[real_NL] = batch.input_ids_T
    kwargs = {} if attention == "causal" else {"is_causal": False}
    hidden_NLD: Tensor = model(
        input_ids=ids_NL, attention_mask=real_NL.long(), use_cache=False, **kwargs
    ).last_hidden_state
    return hidden_NLD[real_NL]
