"""The tasks that are measured, with heads like those that transformers puts on GPT-2 and Llama for the same tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from vertebra.engine.packing import PackedBatch
from vertebra.tasks.config import TokenClassificationConfig
from vertebra.tasks.features import Features
from vertebra.tasks.task import Row, Task
from vertebra.tasks.token_classification import TokenClassification, sort_labels


class Words(TokenClassification):
    """One label for each word, carried by its first sub-token, as in run_ner.py."""

    name: ClassVar[str] = "words"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    def __init__(self) -> None:
        super().__init__(TokenClassificationConfig(label_on="first"))


class Texts(Task):
    """One label for each text, read at its last token, as GPT-2 and Llama do in run_glue.py."""

    name: ClassVar[str] = "texts"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    columns: ClassVar[dict[str, type]] = {"text": str, "label": str}

    def __init__(self) -> None:
        super().__init__(None)
        self.labels: list[str] = []

    def fit(self, rows: Sequence[Row]) -> None:
        """Learn the labels."""
        self.labels = sort_labels(row["label"] for row in rows)

    def state(self) -> dict[str, Any]:
        """Return the labels."""
        return {"labels": self.labels}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back the labels."""
        self.labels = state["labels"]

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Features:
        """Return the tokens of the text, at most 128 as in run_glue.py."""
        target = self.labels.index(row["label"]) if "label" in row else None
        return Features(tokenizer(row["text"]), target=target).truncated(128)

    def build_head(self, width: int) -> nn.Module:
        """Return a linear layer without bias, (P, width) to (P, L)."""
        return nn.Linear(width, len(self.labels), bias=False)

    def loss(self, outputs_PL: Tensor, targets_P: Tensor) -> Tensor:
        """Return the mean cross-entropy."""
        return F.cross_entropy(outputs_PL, targets_P)

    def decode(self, outputs_PL: Tensor, batch: PackedBatch) -> list[str]:
        """Return the likeliest label of each text."""
        return [self.labels[number] for number in outputs_PL.argmax(dim=-1).tolist()]
