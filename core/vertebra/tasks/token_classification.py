"""Token classification: one label for each word of a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vertebra.errors import DataError
from vertebra.report.figures import Figure
from vertebra.report.labels import confusions, label_report
from vertebra.tasks.baseline import Baseline
from vertebra.tasks.config import TokenClassificationConfig
from vertebra.tasks.features import Features
from vertebra.tasks.frequent_tag import MostFrequentTag
from vertebra.tasks.heads import Dropout
from vertebra.tasks.subtokens import align
from vertebra.tasks.task import Row, Task
from vertebra.tasks.words import split_words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vertebra.engine.packing import PackedBatch

OUTSIDE = "O"
UNSEEN = -100
"""The target of a label that the training rows do not have; `F.cross_entropy` leaves it out."""


class TokenClassification(Task):
    """One label for each word; a task of this family says its name and its metrics.

    A row has `tokens`, the words, and `tags`, their labels. Each word is labelled at one of its sub-tokens, and
    predictions are lists of labels, one for each word. Labels are whatever the training rows have. One that only other
    rows have cannot be predicted: it adds nothing to the loss, and stays in the reference, where it counts as missed.

    Letters in names: P words of a batch, L labels.
    """

    family: ClassVar[str] = "token-classification"
    columns: ClassVar[dict[str, type]] = {"tokens": list, "tags": list}
    input_columns: ClassVar[tuple[str, ...] | None] = ("tokens",)
    too_long: ClassVar[Literal["window", "truncate", "error"]] = "window"
    attention: ClassVar[Literal["causal", "bidirectional"]] = "bidirectional"

    def __init__(self, config: TokenClassificationConfig | None = None) -> None:
        super().__init__(config or TokenClassificationConfig())
        self.labels: list[str] = []
        self.by_character = False

    def tags(self, row: Row) -> list[str]:
        """Return the labels of a row's words as the model learns them; by default as they stand in the row."""
        tags: list[str] = row["tags"]
        return tags

    # --- from rows to features

    def check(self, row: Row) -> None:
        """Refuse tokens or tags that are not strings, and a row with more of one than of the other."""
        for column in self.columns:
            wrong = [value for value in row.get(column, ()) if not isinstance(value, str)]
            if wrong:
                kind = type(wrong[0]).__name__
                raise DataError(f"Column '{column}' must hold strings, but has {wrong[0]!r} ({kind}).")
        if "tags" in row and len(row["tags"]) != len(row["tokens"]):
            raise DataError(f"{len(row['tokens'])} tokens have {len(row['tags'])} tags; each token needs one.")

    def fit(self, rows: Sequence[Row]) -> None:
        """Learn the labels, and whether the words are single characters, as in most Chinese data."""
        self.labels = sort_labels(chain.from_iterable(self.tags(row) for row in rows))
        if not self.labels:
            raise DataError("The training rows have no tags: there is nothing to learn.")
        if len(self.labels) == 1:
            raise DataError(
                f"Every word of the training rows has the tag '{self.labels[0]}': there is nothing to learn. Is "
                "data.columns.tags the right column? Has data.limit left out the others?"
            )
        self.by_character = all(len(word) == 1 for row in rows for word in row["tokens"])

    def state(self) -> dict[str, Any]:
        """Return the labels and the kind of words."""
        return {"labels": self.labels, "by_character": self.by_character}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back the labels and the kind of words."""
        self.labels, self.by_character = state["labels"], state["by_character"]

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Features:
        """Turn words into sub-tokens; `positions` has one for each word, `target` the number of each word's label."""
        ids, positions = align(row["tokens"], tokenizer, self.config.label_on)
        target = None
        if "tags" in row:
            numbers = {label: number for number, label in enumerate(self.labels)}
            target = [numbers.get(tag, UNSEEN) for tag in self.tags(row)]
        return Features(ids, target=target, positions=positions)

    def row_from_text(self, text: str) -> Row:
        """Cut a text into words (into characters where the training rows are so); `offsets` says where each one is."""
        spans = split_words(text)
        if self.by_character:
            spans = [(place, place + 1) for start, end in spans for place in range(start, end)]
        return {"text": text, "tokens": [text[start:end] for start, end in spans], "offsets": [list(s) for s in spans]}

    # --- from hidden states to labels

    def build_head(self, width: int) -> nn.Module:
        """Return dropout and a linear layer, (P, width) to (P, L)."""
        return nn.Sequential(Dropout(self.config.dropout), nn.Linear(width, len(self.labels)))

    def loss(self, outputs_PL: Tensor, targets_P: Tensor) -> Tensor:
        """Return the mean cross-entropy over the words whose label is known; 0 where there are none."""
        total = F.cross_entropy(outputs_PL, targets_P, ignore_index=UNSEEN, reduction="sum")
        return total / (targets_P != UNSEEN).sum().clamp(min=1)

    def decode(self, outputs_PL: Tensor, batch: PackedBatch) -> list[list[str]]:
        """Return the likeliest label of each word, in a list for each sequence."""
        best = iter(outputs_PL.argmax(dim=-1).tolist())
        return [[self.labels[number] for number in islice(best, count)] for count in batch.position_counts]

    def combine(self, row: Row, parts: list[Any]) -> Any:
        """Put the labels of the windows one behind the other; words that were truncated away get the first label, O."""
        labels = list(chain.from_iterable(parts))
        return labels + self.labels[:1] * (len(row["tokens"]) - len(labels))

    def reference(self, row: Row) -> Any:
        """Return the labels of a row's words."""
        return self.tags(row)

    def baselines(self) -> Sequence[Baseline]:
        """Return the most frequent label of each word."""
        return [MostFrequentTag(self)]

    # --- for the report and `vertebra inspect`

    def figures(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[Figure]:
        """Return the confusion matrix of the labels and scikit-learn's report on them, word by word."""
        predicted = list(chain.from_iterable(predictions))
        true = list(chain.from_iterable(references))
        if not true:
            return []
        labels = sort_labels([*predicted, *true])
        note = "scikit-learn's classification report: each word counts, whatever its neighbours are."
        return [
            confusions("Labels of words", predicted, true, labels),
            label_report("By word", predicted, true, labels, note),
        ]

    def describe(self, row: Row, features: Features, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, str]]:
        """Return each token with the label that it carries; `?` for a label that the training rows do not have."""
        if features.target is None:
            return super().describe(row, features, tokenizer)
        labels = ["?" if number == UNSEEN else self.labels[number] for number in features.target]
        return super().describe(row, replace(features, target=labels), tokenizer)

    def labels_of(self, row: Row) -> list[str]:
        """Return the labels of a row's words."""
        return self.tags(row)


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Return the different labels in alphabetical order, but `O` first."""
    return sorted(set(labels), key=lambda label: (label != OUTSIDE, label))
