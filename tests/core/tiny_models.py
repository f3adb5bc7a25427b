"""Tiny models of several families, and features with random tokens."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModel,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MptConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from vertebra.tasks.features import Features

VOCABULARY = 97
CONTEXT = 40
SPECIAL: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
GQA: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "vocab_size": VOCABULARY,
    **SPECIAL,
}
GPT2_SHAPE: dict[str, Any] = {"vocab_size": VOCABULARY, "n_positions": CONTEXT, "n_embd": 32, "n_layer": 2, "n_head": 4}
NO_DROPOUT: dict[str, Any] = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}


def config(family: str) -> PretrainedConfig:
    """Return the configuration of a tiny model without dropout."""
    made: dict[str, PretrainedConfig] = {
        "gpt2": GPT2Config(**GPT2_SHAPE, **NO_DROPOUT, **SPECIAL),
        "llama": LlamaConfig(**GQA),
        "qwen2": Qwen2Config(**GQA),
        "qwen3": Qwen3Config(**GQA, head_dim=8),
        "mistral": MistralConfig(**GQA, sliding_window=6),
        "gpt_neox": GPTNeoXConfig(**{k: v for k, v in GQA.items() if k != "num_key_value_heads"}),
        "gemma2": Gemma2Config(**GQA, head_dim=8),
        "gptj": GPTJConfig(**GPT2_SHAPE, **NO_DROPOUT, **SPECIAL, rotary_dim=8),
        "gpt_neo": GPTNeoConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            max_position_embeddings=CONTEXT,
            **SPECIAL,
        ),
        "mpt": MptConfig(
            vocab_size=VOCABULARY, d_model=32, n_layers=2, n_heads=4, max_seq_len=CONTEXT, no_bias=False, **SPECIAL
        ),
        "bloom": BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, **SPECIAL),
    }
    return made[family]


def model(family: str, seed: int = 0) -> PreTrainedModel:
    """Return a tiny model with random weights, in fp32."""
    torch.manual_seed(seed)
    return AutoModel.from_config(config(family), dtype=torch.float32).eval()


def sequences(lengths: list[int], seed: int = 0) -> list[Features]:
    """Return features of these lengths with a random number as the target of each token."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for number, length in enumerate(lengths):
        ids = torch.randint(1, VOCABULARY, (length,), generator=generator).tolist()
        target = torch.randn(length, generator=generator).tolist()
        made.append(Features(ids, target=target, positions=list(range(length)), example=number))
    return made
