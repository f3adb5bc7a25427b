"""The work of pretraining: a folder with a language model of random weights, and windows of running text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig

from vertebra.config.schema import BackboneConfig, DataConfig
from vertebra.data.corpus import CorpusReader, find_texts
from vertebra.engine.sources import nano
from vertebra.host.manager import create_host
from vertebra.runs.environment import describe_environment
from vertebra.tasks.features import Features
from vertebra_speed.ceiling import operations_a_token
from vertebra_speed.options import Data, Shape

WINDOW = 512
"""Tokens."""
N_SYNTHETIC = 512
"""Windows of random tokens."""
_ABOUT, _TOKENS = "windows.json", "windows.npy"


@dataclass(frozen=True)
class Windows:
    """What stands in such a folder."""

    folder: Path
    tokens_NW: NDArray[np.int64]
    """Each window's tokens, and one more: the last one's target."""
    end_of_text: int
    """The token that begins each document."""

    @classmethod
    def read(cls, folder: str) -> Windows:
        """Read it again."""
        about = json.loads((Path(folder) / _ABOUT).read_text(encoding="utf-8"))
        return cls(Path(folder), np.load(Path(folder) / _TOKENS), about["end_of_text"])

    @property
    def model(self) -> Path:
        """The folder that both sides load the model from."""
        return self.folder / "model"

    def pieces(self, window: int) -> list[Features]:
        """Return the documents' parts in a window, each to be read by itself."""
        tokens_W = self.tokens_NW[window]
        starts = np.union1d([0], np.flatnonzero(tokens_W[:-1] == self.end_of_text))
        return [
            Features(tokens_W[a:b], target=tokens_W[a + 1 : b + 1], positions=np.arange(b - a), example=window)
            for a, b in zip(starts, [*starts[1:], len(tokens_W) - 1], strict=True)
        ]

    def undivided(self) -> list[int]:
        """Return the windows that are part of one document, which both sides read alike."""
        return [number for number in range(len(self.tokens_NW)) if len(self.pieces(number)) == 1]


def prepare(folder: str, layers: int, width: int, family: str, data: dict[str, Any], seed: int) -> dict[str, Any]:
    """Write the folder; return what a reader of the figures must know of the work."""
    shape, chosen = Shape(layers, width), Data(**data)
    tokenizer = AutoTokenizer.from_pretrained(nano(BackboneConfig()).location)
    end = int(tokenizer.eos_token_id)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(_config(family, shape, len(tokenizer), end), dtype=torch.float32)
    model.save_pretrained(Path(folder) / "model")
    tokenizer.save_pretrained(Path(folder) / "model")
    if chosen.path is None:
        tokens_NW = np.random.default_rng(seed).integers(1, len(tokenizer), (N_SYNTHETIC, WINDOW + 1))
    else:
        tokens_NW = _cut(chosen.path, tokenizer)
    np.save(Path(folder) / _TOKENS, tokens_NW)
    (Path(folder) / _ABOUT).write_text(json.dumps({"end_of_text": end}), encoding="utf-8")
    windows = Windows.read(folder)
    lengths = [len(piece) for number in range(len(tokens_NW)) for piece in windows.pieces(number)]
    head = 2 * width * len(tokenizer)
    return {
        "environment": describe_environment(),
        "family": family,
        "layers": layers,
        "width": width,
        "parameters": model.num_parameters(),
        "kind": "windows",
        "data": Path(chosen.path).name if chosen.path else "synthetic",
        "tokenizer": "nano",
        "rows": {"train": len(tokens_NW)},
        "tokens_a_row": {"mean": float(WINDOW), "longest": WINDOW},
        "operations_a_token": operations_a_token(model.base_model, layers, width, lengths) + head,
    }


def _cut(path: str, tokenizer: Any) -> NDArray[np.int64]:
    """Return the whole windows of a file's or a folder's training texts."""
    data = DataConfig(path=path, bad_rows="skip")
    texts = find_texts(data, create_host())["train"]
    tokens = CorpusReader(tokenizer, data).read(texts).tokens
    count = (len(tokens) - 1) // WINDOW
    places = np.arange(count)[:, None] * WINDOW + np.arange(WINDOW + 1)
    windows: NDArray[np.int64] = tokens[places].astype(np.int64)
    return windows


def _config(family: str, shape: Shape, vocabulary: int, end: int) -> GPT2Config | LlamaConfig:
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end)
    if family == "gpt2":  # without dropout: nothing is seen twice
        none = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
        shaped = {"n_embd": shape.width, "n_layer": shape.layers, "n_head": shape.heads}
        return GPT2Config(vocab_size=vocabulary, n_positions=2 * WINDOW, **shaped, **none, **ends)
    return LlamaConfig(
        vocab_size=vocabulary,
        max_position_embeddings=2 * WINDOW,
        hidden_size=shape.width,
        intermediate_size=-(-shape.width * 8 // 3 // 64) * 64,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        tie_word_embeddings=True,
        **ends,
    )
