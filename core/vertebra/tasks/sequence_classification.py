"""Sequence classification: labels for a text, or for a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from vertebra.errors import ConfigError, DataError
from vertebra.report.figures import Figure
from vertebra.tasks.baseline import Baseline
from vertebra.tasks.config import SequenceClassificationConfig
from vertebra.tasks.features import Features
from vertebra.tasks.label_baselines import LinearBaseline, MajorityBaseline
from vertebra.tasks.labelling import KINDS, Labelling, SingleLabel
from vertebra.tasks.pooling import pooled
from vertebra.tasks.task import Row, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vertebra.engine.packing import PackedBatch


class SequenceClassification(Task):
    """Labels for a text; a task of this family says its name.

    A row has `text`, with `pair` also `text_b`, and `label`: a text, or with `kind=multi` a list of texts. Predictions are
    `{"label", "probability", "probabilities"}`, or `{"labels", "probabilities"}`. Labels are whatever the training
    rows have, or those that `labels` declares. One that only other rows have cannot be predicted: it adds nothing to the
    loss, and stays in the reference, where it counts as missed.

    A row over the context is truncated. Where it is cut into windows instead, each of them has the row's label, and so
    the row weighs as much in the loss as it has windows; its prediction is the mean of their log-probabilities.

    Letters in names: N sequences of a batch, L labels.
    """

    family: ClassVar[str] = "sequence-classification"
    columns: ClassVar[dict[str, type]] = {"text": str, "label": str}
    metrics: ClassVar[tuple[str, ...]] = SingleLabel.metrics
    """The scores of kind=single; the other kinds have their own, see `vertebra.tasks.labelling`."""
    too_long: ClassVar[Literal["window", "truncate", "error"]] = "truncate"
    attention: ClassVar[Literal["causal", "bidirectional"]] = "bidirectional"

    def __init__(self, config: SequenceClassificationConfig | None = None) -> None:
        config = config or SequenceClassificationConfig()
        super().__init__(config)
        self.labelling: Labelling = KINDS[config.kind](config)
        self.texts = ("text", "text_b") if config.pair else ("text",)
        if config.label_separator is not None and config.kind != "multi":
            raise ConfigError(f"task.label_separator is for task.kind=multi; this is {config.kind}.")
        label = self.labelling.column if config.label_separator is None else str
        self.columns = {**dict.fromkeys(self.texts, str), "label": label}  # type: ignore[misc]  # as its settings say
        if config.kind != "single":
            self.metrics = self.labelling.metrics  # type: ignore[misc]  # as its settings say

    @property
    def labels(self) -> list[str]:
        """The labels that can be predicted; those of an ordered scale from the lowest on."""
        return self.labelling.labels

    # --- from rows to features

    def check(self, row: Row) -> None:
        """Refuse an empty text, and labels that the labelling refuses."""
        for column in self.texts:
            if not row[column].strip():
                raise DataError(f"column '{column}' is empty: there is nothing to label.")
        if "label" in row:
            self.labelling.check(row)

    def fit(self, rows: Sequence[Row]) -> None:
        """Learn the labels."""
        self.labelling.fit(rows)

    def state(self) -> dict[str, Any]:
        """Return the labels, their weights and the threshold."""
        return self.labelling.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Take back the labels, their weights and the threshold."""
        self.labelling.restore(state)

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Features:
        """Turn a text, or two with a separator between them, into tokens; `positions` is what the pooling reads."""
        self.check(row)  # a program may encode rows of its own
        ids = tokenize(row["text"], tokenizer, special=True)
        if self.config.pair:
            ids += separator(self.config.separator, tokenizer) + tokenize(row["text_b"], tokenizer)
        target = self.labelling.target(row) if "label" in row else None
        features = Features(np.asarray(ids, dtype=np.int32), target=target)  # reads the last token
        return features if self.config.pooling == "last" else features.read_everywhere()

    def collate(self, features: Sequence[Features]) -> Tensor | None:
        """Return one target for each sequence: (N,), or (N, L) where a text has any number of labels."""
        targets = [one.target for one in features]
        return None if None in targets else self.labelling.collate(targets)

    # --- from hidden states to labels

    def build_head(self, width: int) -> nn.Module:
        """Return pooling, dropout and the labelling's layer: (P, width) to (N, L)."""
        layers = nn.Sequential(nn.Dropout(self.config.dropout), self.labelling.layer(width))
        return pooled(self.config.pooling, width, layers)

    def loss(self, outputs_NL: Tensor, targets: Tensor) -> Tensor:
        """Return the labelling's mean loss over the sequences."""
        return self.labelling.loss(outputs_NL, targets)

    def decode(self, outputs_NL: Tensor, batch: PackedBatch) -> list[list[float]]:
        """Return the log-probabilities (log-odds where labels do not exclude each other) of each sequence's labels."""
        logits: list[list[float]] = self.labelling.logits(outputs_NL).tolist()
        return logits

    def combine(self, row: Row, parts: list[Any]) -> dict[str, Any]:
        """Return the prediction of a row from the mean of its windows."""
        return self.labelling.predict(mean(parts))

    def calibrate(self, rows: Sequence[Row], parts: Sequence[list[Any]]) -> None:
        """Choose the threshold, where the settings leave that to the validation rows."""
        if self.config.threshold == "auto":
            self.labelling.threshold = self.labelling.choose_threshold(rows, [mean(windows) for windows in parts])

    def reference(self, row: Row) -> dict[str, Any]:
        """Return the label of a row, or its labels."""
        return self.labelling.reference(row)

    # --- for the report, baselines and `vertebra inspect`

    def baselines(self) -> Sequence[Baseline]:
        """Return the most frequent label, and a linear model over words."""
        return [MajorityBaseline(self), LinearBaseline(self)]

    def figures(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[Figure]:
        """Return the scores of each label; for one label a text also the confusions and the reliability."""
        return self.labelling.figures(predictions, references) if references else []

    def describe(self, row: Row, features: Features, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, str]]:
        """Return each token; the last one with the labels, marked by `?` where the training rows lack them."""
        tokens = [token for token, _ in super().describe(row, replace(features, target=None), tokenizer)]
        known = self.labels
        labels = [label if label in known else f"{label}?" for label in self.labels_of(row)] if "label" in row else []
        return list(zip(tokens, [*[""] * (len(tokens) - 1), ", ".join(labels)], strict=True))

    def labels_of(self, row: Row) -> list[str]:
        """Return the labels of a row."""
        return self.labelling.of(row)


def tokenize(text: str, tokenizer: PreTrainedTokenizerBase, *, special: bool = False) -> list[int]:
    """Return a text's token ids; what a user wrote as `<|endoftext|>` is text."""
    encoded = tokenizer(
        text,
        add_special_tokens=special,
        split_special_tokens=True,
        return_attention_mask=False,
        verbose=False,  # over-long texts are the core's to cut
    )
    ids: list[int] = list(encoded["input_ids"])
    return ids


def separator(wanted: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens between the texts of a pair."""
    if wanted != "auto":
        return tokenize(wanted, tokenizer)
    own = [number for number in (tokenizer.sep_token_id, tokenizer.eos_token_id) if number is not None]
    return own[:1] or tokenize("\n", tokenizer)


def mean(parts: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean of what a row's windows have for each label."""
    average: list[float] = np.mean(np.asarray(parts), axis=0).tolist()
    return average
