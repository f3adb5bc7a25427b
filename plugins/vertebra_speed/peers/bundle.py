"""transformers' pipelines, one for each task, each with a model of its own.

default: each text by its pipeline, in the order in which texts come, as a service does that has several pipelines.
best: the texts at hand by task, sorted by length, in the batch size that is fastest when it is tried.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    pipeline,
)
from transformers.utils import logging

from vertebra_speed.bundle_work import SCALE, WARMUP, Answering, Chore, read_chores, read_stream
from vertebra_speed.peers.trainer import head_of
from vertebra_speed.workload import Workload

BATCHES = (1, 8, 32)
TRIAL = 96
"""Texts by which the batch size is chosen."""


class Pipelines(Answering):
    """A pipeline for each task, and a stream of texts for them."""

    def __init__(self, folder: str, threads: int, requests: int, best: bool) -> None:
        super().__init__(requests)
        logging.set_verbosity_error()
        torch.set_num_threads(threads)
        self.best, self.batch = best, 1
        workload = Workload.read(folder)
        self.tokenizer = workload.tokenizer()
        self.chores = {one.name: one for one in read_chores(folder)}
        self.pipelines = {name: make(one, workload, self.tokenizer) for name, one in self.chores.items()}
        stream, self.tokens = read_stream(folder, list(self.chores))
        # Vertebra's words begin with a space, the first one, too.
        self.stream = [(name, f" {text}" if self.chores[name].kind == "words" else text) for name, text in stream]
        if best:
            self.batch = min(BATCHES, key=self._seconds)

    def answers(self) -> dict[str, Any]:
        """Return the labels of each text's words, or its one label, in the stream's order; and how large batches are."""
        found = self.all_of(self.stream)
        labels = [self._labels(*pair) for pair in zip(self.stream, found, strict=True)]
        return {"answers": labels, **({"batch": self.batch} if self.best else {})}

    def _seconds(self, batch: int) -> float:
        """Return how long a batch size takes for some texts; the first such texts do not count."""
        self.batch = batch
        self.all_of(self.stream[:WARMUP])
        before = time.process_time()
        self.all_of(self.stream[:TRIAL])
        return time.process_time() - before

    def at_once(self, given: list[tuple[str, str]]) -> list[Any]:
        """Return what the pipelines give."""
        if not self.best:
            return [self.pipelines[name](text) for name, text in given]
        found: list[Any] = [None] * len(given)
        for name, one in self.pipelines.items():
            places = [place for place, (wanted, _) in enumerate(given) if wanted == name]
            places.sort(key=lambda place: len(given[place][1]))
            answers = one([given[place][1] for place in places], batch_size=self.batch) if places else []
            for place, answer in zip(places, answers, strict=True):
                found[place] = answer
        return found

    def _labels(self, given: tuple[str, str], answer: Any) -> Any:
        """Return a pipeline's answer as Vertebra gives it: the label of each word's first token, or that of the text."""
        chore, text = self.chores[given[0]], given[1]
        if chore.kind == "text":
            return (answer[0] if isinstance(answer, list) else answer)["label"]
        row = chore.task().row_from_text(text)
        at = {place: token["entity"] for token in answer for place in range(token["start"], token["end"])}
        return [at.get(start) for start, _ in row["offsets"]]


def make(chore: Chore, workload: Workload, tokenizer: PreTrainedTokenizerBase) -> Any:
    """Return the pipeline of a task."""
    words = chore.kind == "words"
    model = load_model(chore, workload, tokenizer)
    if words:
        return pipeline("token-classification", model=model, tokenizer=tokenizer, ignore_labels=[], device="cpu")
    return pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")


def load_model(chore: Chore, workload: Workload, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Load the model, and make the task's matrices part of its weights."""
    auto = AutoModelForTokenClassification if chore.kind == "words" else AutoModelForSequenceClassification
    model: PreTrainedModel = auto.from_pretrained(
        workload.model,
        id2label=dict(enumerate(chore.labels)),
        label2id={label: number for number, label in enumerate(chore.labels)},
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.float32,
    )
    # Six trained models are six files; loaded from one, they would share the pages of what the LoRA leaves as it was.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    head = head_of(model)
    with torch.no_grad():
        head.weight.copy_(chore.tensors["weight"])
        if head.bias is not None:
            head.bias.copy_(chore.tensors["bias"])
        for name, down_RI in chore.tensors.items():
            if name.endswith(".A"):
                layer = model.base_model.get_submodule(name[:-2])
                layer.get_parameter("weight").add_(down_RI.T @ chore.tensors[f"{name[:-2]}.B"].T, alpha=SCALE)
    return model.eval()
