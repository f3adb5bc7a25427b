"""The work of `vertebra speed bundle`: adapters and heads of several tasks over the workload's model, and texts for them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel

from vertebra.tasks.task import Task
from vertebra_speed.clock import Clock, peak_memory
from vertebra_speed.workload import Workload, make_task

RANK, SCALE = 8, 2.0
MATRICES = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
"""Of each layer of GPT-2."""
FILE = "tasks.json"
WARMUP = 32
"""Texts that are answered before each turn."""
WORD_LABELS = ["O", *(f"{mark}-{kind}" for kind in ("LOC", "MISC", "ORG", "PER") for mark in "BI")]
TEXT_LABELS = ["negative", "positive"]


@dataclass(frozen=True)
class Chore:
    """One of the tasks."""

    name: str
    kind: str
    labels: list[str]
    tensors: dict[str, Tensor]
    """`h.0.attn.c_attn.A` (R, I) and `….B` (O, R) for each matrix, and the head's `weight` and `bias`."""

    def task(self) -> Task:
        """Return the task, which knows its labels."""
        learnt = {"labels": self.labels, **({"by_character": False} if self.kind == "words" else {})}
        return make_task(self.kind, learnt)


def prepare(folder: str, tasks: int, rows: int, seed: int) -> dict[str, Any]:
    """Write the tasks and the texts into the folder of a workload."""
    workload = Workload.read(folder)
    model = AutoModel.from_pretrained(workload.model)
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return 0.02 * torch.randn(shape, generator=generator)

    chores = []
    for number in range(tasks):
        kind = ("words", "text")[number % 2]
        labels = WORD_LABELS if kind == "words" else TEXT_LABELS
        tensors = {"weight": noise(len(labels), model.config.hidden_size)}
        if kind == "words":
            tensors["bias"] = noise(len(labels))
        for layer in range(model.config.num_hidden_layers):
            for matrix in MATRICES:
                name = f"h.{layer}.{matrix}"
                inputs, outputs = model.get_submodule(name).weight.shape
                tensors |= {f"{name}.A": noise(RANK, inputs), f"{name}.B": noise(outputs, RANK)}
        name = f"{kind}-{number}"
        save_file(tensors, str(Path(folder) / f"{name}.safetensors"))
        chores.append({"name": name, "kind": kind, "labels": labels})
    tokenizer = workload.tokenizer()
    texts = [tokenizer.decode(one.input_ids).strip() or "." for one in workload.rows("valid", rows)]
    stream = [[chores[number % tasks]["name"], text] for number, text in enumerate(texts)]
    tokens = sum(len(tokenizer(text)["input_ids"]) for text in texts)
    document = {"tasks": chores, "stream": stream, "tokens": tokens}
    (Path(folder) / FILE).write_text(json.dumps(document), encoding="utf-8")
    return {"tokens": tokens}


def read_chores(folder: str, number: int | None = None) -> list[Chore]:
    """Read the tasks again, all or the first ones."""
    found = json.loads((Path(folder) / FILE).read_text(encoding="utf-8"))["tasks"][:number]
    return [Chore(**one, tensors=load_file(str(Path(folder) / f"{one['name']}.safetensors"))) for one in found]


def read_stream(folder: str, names: Sequence[str]) -> tuple[list[tuple[str, str]], int]:
    """Return the texts with their tasks, and their tokens; where a task is missing, the first one gets its texts."""
    document = json.loads((Path(folder) / FILE).read_text(encoding="utf-8"))
    return [(name if name in names else names[0], text) for name, text in document["stream"]], document["tokens"]


class Answering(ABC):
    """A side that answers the stream's texts, so many of them at once."""

    def __init__(self, requests: int) -> None:
        """Measure what is held before a model is loaded."""
        self.before = resident()
        self.requests = requests
        self.stream: list[tuple[str, str]] = []
        self.tokens = 0

    @abstractmethod
    def at_once(self, given: list[tuple[str, str]]) -> list[Any]:
        """Return the answers to texts that are there together."""

    def answer(self, seed: int) -> dict[str, Any]:
        """Answer every text."""
        self.all_of(self.stream[:WARMUP])
        clock = Clock("cpu")
        self.all_of(self.stream)
        return clock.turn(self.tokens, 1)

    def memory(self) -> dict[str, Any]:
        """Return the most memory held so far, and what is held now above the imports."""
        return {**peak_memory("cpu"), "above": resident() - self.before}

    def all_of(self, stream: list[tuple[str, str]]) -> list[Any]:
        """Return the answers to a stream."""
        found: list[Any] = []
        for start in range(0, len(stream), self.requests):
            found += self.at_once(stream[start : start + self.requests])
        return found


def resident() -> int:
    """Return the bytes of this process that are in memory now."""
    return int(psutil.Process().memory_info().rss)
