"""The work that both sides are given: a folder with one model, its tokenizer, and examples that are already tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model, save_model
from torch import nn
from transformers import AutoModel, AutoTokenizer, GPT2Config, GPT2Tokenizer, LlamaConfig, PretrainedConfig
from transformers import PreTrainedTokenizerBase as Tokenizer

from vertebra.config.schema import BackboneConfig, DataConfig
from vertebra.data.encode import encode_split
from vertebra.data.load import load_splits
from vertebra.engine.sources import nano
from vertebra.host.manager import create_host
from vertebra.runs.environment import describe_environment
from vertebra.tasks.features import Features
from vertebra.tasks.task import Task
from vertebra_speed.ceiling import operations_a_token
from vertebra_speed.options import VOCABULARY, Data, Shape, shared
from vertebra_speed.tasks import Texts, Words

CONTEXT = 1024
HEAD = "head.safetensors"
N_SYNTHETIC = {"train": 8192, "valid": 1024}
N_LABELS = 9
"""Labels of synthetic rows: as many as in CoNLL-2003."""


@dataclass(frozen=True)
class Workload:
    """What stands in such a folder."""

    folder: Path
    task: Task
    features: dict[str, list[Features]]
    """Of `train` and `valid`, each a list in the order of the rows; a row is one sequence."""

    @classmethod
    def read(cls, folder: str) -> Workload:
        """Read it again."""
        found = json.loads((Path(folder) / "workload.json").read_text(encoding="utf-8"))
        features = {
            split: [
                Features(ids, target=target, positions=places, example=n)
                for n, (ids, places, target) in enumerate(all_)
            ]
            for split, all_ in found["features"].items()
        }
        return cls(Path(folder), make_task(found["kind"], found["state"]), features)

    @property
    def model(self) -> Path:
        """The folder that both sides load the model from."""
        return self.folder / "model"

    def rows(self, split: str, number: int) -> list[Features]:
        """Return so many rows of a split, from its start again where it has fewer."""
        return list(islice(cycle(self.features[split]), number))

    def give_head(self, head: nn.Linear) -> None:
        """Put the weights that both sides have into a head."""
        load_model(head, str(self.model / HEAD))

    def tokenizer(self) -> Tokenizer:
        """Return the model's tokenizer, with a token to pad with: the end of text, as is usual for GPT-2."""
        tokenizer = AutoTokenizer.from_pretrained(self.model)
        tokenizer.pad_token = tokenizer.eos_token
        return tokenizer


def make_task(kind: str, state: dict[str, Any]) -> Task:
    """Return the task of a kind of data, which knows its labels."""
    task: Task = Texts() if kind == "text" else Words()
    task.restore(state)
    return task


def prepare(folder: str, layers: int, width: int, family: str, data: dict[str, Any], seed: int) -> dict[str, Any]:
    """Write the folder; return what a reader of the figures must know of the work."""
    tokenizer = _tokenizer()
    config = _config(family, Shape(layers, width), tokenizer)
    torch.manual_seed(seed)
    model = AutoModel.from_config(config, dtype=torch.float32)
    model.save_pretrained(Path(folder) / "model")
    tokenizer.save_pretrained(Path(folder) / "model")

    chosen = Data(**data)
    task, features = _synthetic(chosen, seed) if chosen.kind == "synthetic" else _real(chosen, tokenizer)
    save_model(linear_of(task.build_head(width)), str(Path(folder) / "model" / HEAD))
    written = {
        split: [[f.input_ids.tolist(), f.positions.tolist(), f.target] for f in some]
        for split, some in features.items()
    }
    document = {"kind": chosen.kind, "state": task.state(), "features": written}
    (Path(folder) / "workload.json").write_text(json.dumps(document), encoding="utf-8")
    lengths = np.array([len(one) for one in features["train"]])
    return {
        "environment": describe_environment(),
        "family": family,
        "layers": layers,
        "width": width,
        "parameters": model.num_parameters(),
        "kind": chosen.kind,
        "data": Path(chosen.path).name if chosen.path else str(chosen),
        "tokenizer": "gpt2" if shared("tokenizer/gpt2") else "nano",
        "rows": {split: len(some) for split, some in features.items()},
        "tokens_a_row": {"mean": float(lengths.mean()), "longest": int(lengths.max())},
        "operations_a_token": operations_a_token(model, layers, width, lengths.tolist()),
        "labels": len(task.state()["labels"]),
    }


def linear_of(head: nn.Module) -> nn.Linear:
    """Return the linear layer of a head."""
    return next(module for module in head.modules() if isinstance(module, nn.Linear))


def _tokenizer() -> Tokenizer:
    """Return GPT-2's tokenizer where its files are beside the repository, else the one in the package."""
    folder = shared("tokenizer/gpt2")
    return (
        AutoTokenizer.from_pretrained(nano(BackboneConfig()).location)
        if folder is None
        else GPT2Tokenizer.from_pretrained(folder)
    )


def _config(family: str, shape: Shape, tokenizer: Tokenizer) -> PretrainedConfig:
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_token_id)
    if family == "gpt2":
        return GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=CONTEXT,
            n_embd=shape.width,
            n_layer=shape.layers,
            n_head=shape.heads,
            **ends,
        )
    return LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        hidden_size=shape.width,
        intermediate_size=-(-shape.width * 8 // 3 // 64) * 64,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        tie_word_embeddings=True,  # like GPT-2, so that both families generate from the same weights as they train
        **ends,
    )


def _real(data: Data, tokenizer: Tokenizer) -> tuple[Task, dict[str, list[Features]]]:
    task: Task = Texts() if data.kind == "text" else Words()
    columns: dict[str, str | int] = {"text": 0, "label": 1} if data.kind == "text" else {}
    rows = load_splits(DataConfig(path=data.path, columns=columns), task, create_host()).rows
    task.fit(rows["train"])
    splits = ("train", "valid")
    # One sequence a row, on both sides; rows over the context are cut off, as in the official scripts.
    features = {
        split: encode_split(task, rows[split], tokenizer, context=CONTEXT, too_long="truncate").features
        for split in splits
    }
    # Rows without a label (a document's title line, an empty text) would be no work on either side.
    return task, {split: [one for one in some if one.n_targets] for split, some in features.items()}


def _synthetic(data: Data, seed: int) -> tuple[Task, dict[str, list[Features]]]:
    """Return rows of random tokens whose lengths are spread like those of sentences: log-normal."""
    generator = np.random.default_rng(seed)
    features = {}
    for split, rows in N_SYNTHETIC.items():
        spread = 0.6
        lengths = generator.lognormal(np.log(data.mean_length) - spread**2 / 2, spread, rows)
        lengths = lengths.round().clip(1, CONTEXT).astype(int)
        features[split] = [
            Features(
                generator.integers(1, VOCABULARY, length),
                target=generator.integers(0, N_LABELS, length).tolist(),
                positions=np.arange(length),
                example=number,
            )
            for number, length in enumerate(lengths)
        ]
    task = Words()
    task.restore({"labels": [f"L{number}" for number in range(N_LABELS)], "by_character": False})
    return task, features
