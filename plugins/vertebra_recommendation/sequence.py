"""Layers that read sequences of item vectors: a small causal transformer with the norm first.

Letters: N sequences, S places of the longest one, W width, H attention heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vertebra.tasks.heads import Dropout


class SequenceLayers(nn.Module):
    """Self-attention over vectors in their order, each one seeing those before it (as in SASRec, Kang and McAuley 2018)."""

    def __init__(self, width: int, layers: int, heads: int, places: int, dropout: float) -> None:
        """Take how many `places` a sequence has at most."""
        super().__init__()
        self.places = nn.Embedding(places, width)
        nn.init.normal_(self.places.weight, std=0.02)
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(SequenceLayer(width, heads, dropout) for _ in range(layers))
        self.last_norm = nn.LayerNorm(width)

    def forward(self, vectors_NSW: Tensor) -> Tensor:
        """Return the states (N, S, W); what stands behind a sequence's end changes nothing in it."""
        places = torch.arange(vectors_NSW.shape[1], device=vectors_NSW.device)
        hidden_NSW = self.dropout(self.norm(vectors_NSW + self.places(places)))
        for layer in self.layers:
            hidden_NSW = layer(hidden_NSW)
        states_NSW: Tensor = self.last_norm(hidden_NSW)
        return states_NSW


class SequenceLayer(nn.Module):
    """Causal attention, then two linear layers, each with a norm before it and added to its input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.linear_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.linear = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout = Dropout(dropout)

    def forward(self, hidden_NSW: Tensor) -> Tensor:
        """Return the layer's output, of the same shape."""
        parts = self.queries_keys_values(self.attention_norm(hidden_NSW)).chunk(3, dim=-1)
        queries, keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed_NHSV = F.scaled_dot_product_attention(
            queries, keys, values, is_causal=True, dropout_p=self.dropout.p if self.training else 0.0
        )
        hidden_NSW = hidden_NSW + self.dropout(self.out(mixed_NHSV.transpose(1, 2).flatten(2)))
        output_NSW: Tensor = hidden_NSW + self.dropout(self.linear(self.linear_norm(hidden_NSW)))
        return output_NSW
