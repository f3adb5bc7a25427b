"""What the tests of the data part share: two small tasks, and where the real data are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import Tensor, nn

from vertebra.errors import DataError
from vertebra.tasks.features import Features
from vertebra.tasks.task import Row, Task


def shared(place: str) -> str:
    """Return the path of a real data set, or skip the test."""
    path = Path(__file__).resolve().parents[3] / "shared" / "data" / place
    if not path.exists():
        pytest.skip(f"the real data '{place}' are not on this machine")
    return str(path)


class _Headless(Task):
    metrics = ("topic_accuracy",)

    def build_head(self, width: int) -> nn.Module:
        return nn.Linear(width, 2)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum()

    def decode(self, outputs: Tensor, batch: Any) -> list[Any]:
        return []


@dataclass(frozen=True)
class TopicConfig:
    shout: bool = False


class Topic(_Headless):
    """A label for a text."""

    name = "topic"
    columns: ClassVar[dict[str, type]] = {"text": str, "label": str}

    def __init__(self, config: TopicConfig | None = None) -> None:
        super().__init__(config or TopicConfig())
        self.labels: list[str] = []

    def fit(self, rows: Sequence[Row]) -> None:
        self.labels = sorted({row["label"] for row in rows})

    def state(self) -> dict[str, Any]:
        return {"labels": self.labels}

    def check(self, row: Row) -> None:
        if row.get("label") == "forbidden":
            raise DataError("the label 'forbidden' is not allowed.")

    def encode(self, row: Row, tokenizer: Any) -> Features:
        text = row["text"].upper() if self.config.shout else row["text"]
        numbers = {label: number for number, label in enumerate(self.labels)}
        return Features(tokenizer(text).input_ids, target=numbers.get(row["label"], -1) if "label" in row else None)

    def labels_of(self, row: Row) -> list[str]:
        return [row["label"]]


class Words(_Headless):
    """A number for each word: its length; one token for each."""

    name = "words"
    columns: ClassVar[dict[str, type]] = {"tokens": list, "tags": list}
    input_columns = ("tokens",)
    too_long = "window"

    def encode(self, row: Row, tokenizer: Any) -> Features:
        ids = [tokenizer(word).input_ids[0] for word in row["tokens"]]
        return Features(ids, target=[len(word) for word in row["tokens"]], positions=range(len(ids)))

    def row_from_text(self, text: str) -> Row:
        return {"tokens": text.split()}


class Scored(_Headless):
    """Columns of other types."""

    name = "scored"
    columns: ClassVar[dict[str, type]] = {"text": str, "count": int, "score": float, "good": bool}

    def encode(self, row: Row, tokenizer: Any) -> Features:
        return Features(tokenizer(row["text"]).input_ids, target=row["score"])
