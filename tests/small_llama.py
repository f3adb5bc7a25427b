"""A Llama of any size with random weights."""

from __future__ import annotations

from transformers import LlamaConfig, LlamaModel


def llama(width: int, inner: int, layers: int, heads: int, vocabulary: int) -> LlamaModel:
    return LlamaModel(
        LlamaConfig(
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            vocab_size=vocabulary,
            max_position_embeddings=64,
        )
    )
