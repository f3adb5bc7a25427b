"""Labellings: what the labels of a text are, how they are learnt, and how they are predicted.

One class for each `kind` of `SequenceClassificationConfig`. Letters in names: N sequences, D hidden width, L labels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vertebra.errors import ConfigError, DataError
from vertebra.names import unknown
from vertebra.report.figures import Figure
from vertebra.report.labels import confusions, label_report, reliability, sets_report
from vertebra.tasks.config import SequenceClassificationConfig
from vertebra.tasks.ordered_logits import OrderedLogits
from vertebra.tasks.thresholds import best_threshold, f1, macro_f1

if TYPE_CHECKING:
    from vertebra.tasks.task import Row

UNSEEN = -100
"""The target of a label that the training rows do not have; `F.cross_entropy` leaves it out."""
MOST_SHOWN = 20
"""Up to so many labels a prediction has the probability of each; of more, those of the likeliest."""
SHOWN = 5
REPORT = "scikit-learn's classification report."


class Labelling(ABC):
    """The labels of a task: learnt from the training rows, in the terms of the loss, of predictions and of references."""

    column: ClassVar[type]
    """The type of the column `label`."""
    metrics: ClassVar[tuple[str, ...]]

    def __init__(self, config: SequenceClassificationConfig) -> None:
        self.config = config
        self.labels: list[str] = []
        self.weights: list[float] | None = None
        self.threshold = 0.5 if config.threshold == "auto" else config.threshold
        self.declared = None if config.labels is None else [str(label) for label in config.labels]
        if self.declared is not None and len(set(self.declared)) < len(self.declared):
            raise ConfigError(f"task.labels has a label twice: {', '.join(self.declared)}.")

    # --- what each kind says

    @abstractmethod
    def of(self, row: Row) -> list[str]:
        """Return the labels of a row."""

    @abstractmethod
    def target(self, row: Row) -> Any:
        """Return a row's target, as JSON can hold it; never a list, which would be one of each position."""

    @abstractmethod
    def collate(self, targets: Sequence[Any]) -> Tensor:
        """Return the targets of a batch, of N sequences."""

    @abstractmethod
    def layer(self, width: int) -> nn.Module:
        """Return the layer from (N, D) to (N, L)."""

    @abstractmethod
    def loss(self, outputs_NL: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss over the batch's targets."""

    @abstractmethod
    def logits(self, outputs_NL: Tensor) -> Tensor:
        """Return what a row's windows are averaged in: log-probabilities, or log-odds where labels do not exclude."""

    @abstractmethod
    def frequencies(self, rows: Sequence[Row]) -> list[float]:
        """Return, in the terms of `logits`, how frequent each label is."""

    @abstractmethod
    def predict(self, logits_L: Sequence[float]) -> dict[str, Any]:
        """Return the prediction for a row, in the user's own terms."""

    @abstractmethod
    def reference(self, row: Row) -> dict[str, Any]:
        """Return the right answer of a row, in the terms of `predict`."""

    @abstractmethod
    def choose_threshold(self, rows: Sequence[Row], logits_EL: Sequence[Sequence[float]]) -> float:
        """Return the threshold that is best on these rows."""

    @abstractmethod
    def figures(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[Figure]:
        """Return the report's tables; there is at least one example."""

    # --- what all kinds share

    def check(self, row: Row) -> None:
        """Raise `DataError` for a label that is empty, or none of those declared."""
        for label in self.of(row):
            if not label.strip():
                raise DataError("a label is empty.")
            if self.declared is not None and label not in self.declared:
                raise DataError(f"task.labels: {unknown('label', label, self.declared)}")

    def fit(self, rows: Sequence[Row]) -> None:
        """Learn the labels and their weights."""
        found = [self.of(row) for row in rows]
        if len({frozenset(labels) for labels in found}) < 2:
            shown = ", ".join(found[0]) or "none"
            raise DataError(
                f"Every training row has the same label ({shown}): there is nothing to learn. Is data.columns.label the "
                "right column? Has data.limit left out the others?"
            )
        counts = Counter(label for labels in found for label in labels)
        self.labels = self.ordered(counts) if self.declared is None else self.declared
        self.weights = self._weights(counts, len(rows))

    def ordered(self, labels: Iterable[str]) -> list[str]:
        """Return labels in the order in which they are numbered and shown."""
        return by_number(labels) or sorted(labels)

    def balanced(self, count: int, rows: int) -> float:
        """Return the weight of a label that `count` of the rows have, with which all labels weigh the same."""
        return rows / (len(self.labels) * count)

    def _weights(self, counts: Counter[str], rows: int) -> list[float] | None:
        wanted = self.config.class_weights
        if wanted == "none":
            return None
        if wanted == "balanced":
            return [self.balanced(counts[label], rows) if counts[label] else 1.0 for label in self.labels]
        for label in wanted:
            if label not in self.labels:
                raise ConfigError(f"task.class_weights: {unknown('label', label, self.labels)}")
        return [wanted.get(label, 1.0) for label in self.labels]

    def state(self) -> dict[str, Any]:
        """Return what was learnt."""
        return {"labels": self.labels, "weights": self.weights, "threshold": self.threshold}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what was learnt."""
        self.labels, self.weights, self.threshold = state["labels"], state["weights"], state["threshold"]

    def shown(self, probabilities_L: Sequence[float]) -> dict[str, float]:
        """Return labels with their probabilities, the likeliest first; of many labels the first few."""
        ranked = sorted(zip(self.labels, probabilities_L, strict=True), key=lambda pair: -pair[1])
        most = len(ranked) if len(ranked) <= MOST_SHOWN else SHOWN
        return {label: round(probability, 6) for label, probability in ranked[:most]}


class SingleLabel(Labelling):
    """One label for a text."""

    column: ClassVar[type] = str
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1", "mcc", "calibration_error")

    def of(self, row: Row) -> list[str]:
        """Return the row's label alone."""
        return [row["label"]]

    def fit(self, rows: Sequence[Row]) -> None:
        """Learn the labels and their weights; a threshold needs two labels."""
        super().fit(rows)
        if len(self.labels) > 2 and self.config.threshold != 0.5:
            raise ConfigError(
                f"task.threshold={self.config.threshold} is for two labels; there are {len(self.labels)}."
            )

    def target(self, row: Row) -> Any:
        """Return the number of the label."""
        return self.labels.index(row["label"]) if row["label"] in self.labels else UNSEEN

    def collate(self, targets: Sequence[Any]) -> Tensor:
        """Return the numbers of the labels, (N,)."""
        return torch.tensor(targets)

    def layer(self, width: int) -> nn.Module:
        """Return a linear layer."""
        return nn.Linear(width, len(self.labels))

    def loss(self, outputs_NL: Tensor, targets_N: Tensor) -> Tensor:
        """Return the mean cross-entropy over the texts whose label is known; 0 where there are none.

        Weights do not change what it is divided by, so that a text weighs the same in whatever batch it comes.
        """
        losses_N = F.cross_entropy(
            outputs_NL,
            targets_N,
            ignore_index=UNSEEN,
            label_smoothing=self.config.label_smoothing,
            reduction="none",
        )
        if self.weights is not None:
            losses_N = losses_N * outputs_NL.new_tensor(self.weights)[targets_N.clamp(min=0)]
        return losses_N.sum() / (targets_N != UNSEEN).sum().clamp(min=1)

    def logits(self, outputs_NL: Tensor) -> Tensor:
        """Return log-probabilities."""
        return outputs_NL.double().log_softmax(-1)

    def frequencies(self, rows: Sequence[Row]) -> list[float]:
        """Return the logarithm of each label's share."""
        counts = Counter(row["label"] for row in rows)
        return [float(np.log(max(counts[label], 1e-9) / len(rows))) for label in self.labels]

    def predict(self, logits_L: Sequence[float]) -> dict[str, Any]:
        """Return the label, its probability, and those of the others."""
        probabilities_L = softmax(logits_L)
        number = self.choose(probabilities_L)
        return {
            "label": self.labels[number],
            "probability": round(probabilities_L[number], 6),
            "probabilities": self.shown(probabilities_L),
        }

    def choose(self, probabilities_L: Sequence[float]) -> int:
        """Return the likeliest label; of two labels the second where its probability reaches the threshold."""
        if len(probabilities_L) == 2:
            return int(probabilities_L[1] >= self.threshold)
        return int(np.argmax(probabilities_L))

    def reference(self, row: Row) -> dict[str, Any]:
        """Return the row's label."""
        return {"label": row["label"]}

    def choose_threshold(self, rows: Sequence[Row], logits_EL: Sequence[Sequence[float]]) -> float:
        """Return the threshold with the best macro F1."""
        probabilities = [softmax(logits_L)[1] for logits_L in logits_EL]
        return best_threshold(probabilities, [row["label"] == self.labels[1] for row in rows], macro_f1)

    def figures(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[Figure]:
        """Return the scores of each label, the confusions, and the reliability of the probabilities."""
        predicted, true = ([one["label"] for one in some] for some in (predictions, references))
        labels = [*self.labels, *sorted(set(true) - set(self.labels))]
        right = [one == other for one, other in zip(predicted, true, strict=True)]
        return [
            label_report("By label", predicted, true, labels, REPORT),
            confusions("Labels", predicted, true, labels),
            reliability([one["probability"] for one in predictions], right),
        ]


class OrdinalLabel(SingleLabel):
    """One label of an ordered scale, such as stars.

    It differs from a single label in its last layer (see `OrderedLogits`), and in predicting the median of the scale: the
    label that is fewest steps off, as its probabilities have it.
    """

    metrics: ClassVar[tuple[str, ...]] = ("quadratic_kappa", "mean_absolute_error", "accuracy", "macro_f1")

    def ordered(self, labels: Iterable[str]) -> list[str]:
        """Return labels that are numbers by their size; others need an order that is declared."""
        ordered = by_number(labels)
        if not ordered:
            raise ConfigError(
                f"task.kind=ordinal needs the order of the labels, lowest first: task.labels=[{','.join(sorted(labels))}]."
            )
        return ordered

    def target(self, row: Row) -> Any:
        """Return the label's place on the scale; `DataError` for a label that is not on it."""
        if row["label"] not in self.labels:
            scale, of = ", ".join(self.labels), f" of row '{row['id']}'" if "id" in row else ""
            raise DataError(f"label '{row['label']}'{of} is not on the scale {scale}: give all labels in task.labels.")
        return super().target(row)

    def reference(self, row: Row) -> dict[str, Any]:
        """Return the row's label; `DataError` for one that is not on the scale, which no distance could be taken to."""
        self.target(row)
        return super().reference(row)

    def layer(self, width: int) -> nn.Module:
        """Return one number for a text, parted by thresholds."""
        return OrderedLogits(width, len(self.labels))

    def choose(self, probabilities_L: Sequence[float]) -> int:
        """Return the median of the scale."""
        return min(int(np.searchsorted(np.cumsum(probabilities_L), 0.5)), len(self.labels) - 1)

    def fit(self, rows: Sequence[Row]) -> None:
        """Learn the scale; it has thresholds of its own."""
        if self.config.threshold != 0.5:
            raise ConfigError(f"task.threshold={self.config.threshold} is not for task.kind=ordinal.")
        super().fit(rows)


class MultiLabel(Labelling):
    """Any number of labels for a text; each is there or not, whatever the others are."""

    column: ClassVar[type] = list
    metrics: ClassVar[tuple[str, ...]] = ("multilabel_micro_f1", "multilabel_macro_f1", "subset_accuracy")

    def of(self, row: Row) -> list[str]:
        """Return the row's labels; `DataError` where they are not texts."""
        value = row["label"]
        if isinstance(value, str):
            parts = [part.strip() for part in value.split(self.config.label_separator)]
            return parts if parts != [""] else []
        wrong = [label for label in value if not isinstance(label, str | int) or isinstance(label, bool)]
        if wrong:
            raise DataError(f"column 'label' must hold texts, but has {wrong[0]!r}.")
        return [str(label) for label in value]

    def balanced(self, count: int, rows: int) -> float:
        """Return how many rows lack the label for each one that has it."""
        return max(rows - count, 1) / count

    def target(self, row: Row) -> Any:
        """Return the numbers of the labels; those that training lacks are left out."""
        own = set(self.of(row))
        return {"labels": [number for number, label in enumerate(self.labels) if label in own]}

    def collate(self, targets: Sequence[Any]) -> Tensor:
        """Return (N, L): 1 where a sequence has a label."""
        targets_NL = torch.zeros(len(targets), len(self.labels))
        for number, target in enumerate(targets):
            targets_NL[number, target["labels"]] = 1.0
        return targets_NL

    def layer(self, width: int) -> nn.Module:
        """Return a linear layer."""
        return nn.Linear(width, len(self.labels))

    def loss(self, outputs_NL: Tensor, targets_NL: Tensor) -> Tensor:
        """Return the mean binary cross-entropy over texts and labels; a weight is that of a label being there."""
        smoothing = self.config.label_smoothing
        weights_L = None if self.weights is None else outputs_NL.new_tensor(self.weights)
        targets_NL = targets_NL * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs_NL, targets_NL, pos_weight=weights_L)

    def logits(self, outputs_NL: Tensor) -> Tensor:
        """Return log-odds: their mean is that of the log-probabilities, made to add up to one again."""
        return outputs_NL.double()

    def frequencies(self, rows: Sequence[Row]) -> list[float]:
        """Return the log-odds of each label's share, of half a row where it has none or all."""
        counts = Counter(label for row in rows for label in set(self.of(row)))
        return [float(np.log((counts[label] + 0.5) / (len(rows) - counts[label] + 0.5))) for label in self.labels]

    def predict(self, logits_L: Sequence[float]) -> dict[str, Any]:
        """Return the labels that reach the threshold, and the probability of each."""
        probabilities_L = sigmoid(logits_L)
        chosen = [label for label, p in zip(self.labels, probabilities_L, strict=True) if p >= self.threshold]
        return {"labels": chosen, "probabilities": self.shown(probabilities_L)}

    def reference(self, row: Row) -> dict[str, Any]:
        """Return the row's labels, in the order of `labels`."""
        own = set(self.of(row))
        return {"labels": [*(label for label in self.labels if label in own), *sorted(own - set(self.labels))]}

    def choose_threshold(self, rows: Sequence[Row], logits_EL: Sequence[Sequence[float]]) -> float:
        """Return the one threshold for all labels with the best micro F1."""
        probabilities = [probability for logits_L in logits_EL for probability in sigmoid(logits_L)]
        there = [label in own for own in map(self.of, rows) for label in self.labels]
        return best_threshold(probabilities, there, f1)

    def figures(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[Figure]:
        """Return the scores of each label."""
        predicted, true = ([one["labels"] for one in some] for some in (predictions, references))
        labels = [*self.labels, *sorted({label for own in true for label in own} - set(self.labels))]
        return [sets_report("By label", predicted, true, labels, REPORT)]


KINDS: dict[str, type[Labelling]] = {"single": SingleLabel, "multi": MultiLabel, "ordinal": OrdinalLabel}


def softmax(logits_L: Sequence[float]) -> list[float]:
    """Return probabilities that add up to one."""
    values = np.exp(np.asarray(logits_L) - max(logits_L))
    probabilities: list[float] = (values / values.sum()).tolist()
    return probabilities


def sigmoid(logits_L: Sequence[float]) -> list[float]:
    """Return the probability of each label."""
    probabilities: list[float] = torch.sigmoid(torch.tensor(logits_L, dtype=torch.float64)).tolist()
    return probabilities


def by_number(labels: Iterable[str]) -> list[str]:
    """Return labels that are numbers by their size; an empty list where one is none."""
    sizes = {label: size(label) for label in labels}
    return sorted(sizes, key=lambda label: (sizes[label], label)) if all(map(math.isfinite, sizes.values())) else []


def size(label: str) -> float:
    """Return a label as a number; NaN for one that is none."""
    try:
        return float(label)
    except ValueError:
        return math.nan
