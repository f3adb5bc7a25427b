"""The task protocol: the one class that a plugin author needs to know."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from vertebra.errors import DataError
from vertebra.report.figures import Figure
from vertebra.tasks.baseline import Baseline
from vertebra.tasks.features import Features

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vertebra.engine.backbone import Backbone
    from vertebra.engine.packing import PackedBatch

Row = dict[str, Any]
"""A row of the data: its columns by name, and `id`, the name of the row."""


class Task(ABC):
    """What is read, how it becomes tokens and targets, the head, the loss, how outputs are decoded, what is measured.

    The core calls, in this order: `fit` on the training rows, `encode` on each row, `build_head`, then for each batch
    the head on the hidden states (P, D) of the batch's positions, `loss` in training and `decode` in evaluation, and
    `combine` where a row was cut into windows. Predictions and references are what `decode` and `reference` return, in
    the user's own terms; metrics compare them.

    Letters in names: T tokens in the packed stream, N sequences in it, P positions read by the head, D hidden width.
    """

    name: ClassVar[str]
    """The name that it is registered under, which `task=NAME` chooses."""
    family: ClassVar[str] = "custom"
    """The family that it derives from, by name; `custom` for a task of its own kind."""
    columns: ClassVar[dict[str, type]]
    """The columns a row must have, with their Python types (`list` for a list of anything)."""
    metrics: ClassVar[tuple[str, ...]]
    """Registered metrics; the first one picks the best checkpoint."""
    tables: ClassVar[Mapping[str, dict[str, type]]] = {}
    """Tables that a reader brings beside the rows, such as the items of a catalogue: their columns by the table's name."""
    input_columns: ClassVar[tuple[str, ...] | None] = None
    """The columns that `predict` needs; by default all of `columns` but those of the reference, `label` and `score`."""
    optional_inputs: ClassVar[Mapping[str, type]] = {}
    """What a row to predict on may have besides, such as the direction of a translation: columns with their types."""
    too_long: ClassVar[Literal["window", "truncate", "error"]] = "truncate"
    """What happens by default to a row that is longer than the context."""
    attention: ClassVar[Literal["causal", "bidirectional"]] = "causal"
    """The attention that suits the task where the backbone's weights are random, or have learnt to be read either way."""
    needs_language_model: ClassVar[bool] = False
    """Whether the backbone comes with its language-model head, and predictions are texts that it writes."""
    shared: Sequence[Features] = ()
    """What `encode_shared` made, fitted to the context; the core sets it before the first step and the first batch."""

    def __init__(self, config: Any = None) -> None:
        self.config = config

    # --- what a task of its own kind must say

    @abstractmethod
    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Features | Sequence[Features]:
        """Turn a row into features. A row without its reference columns (at prediction) has `target=None`."""

    @abstractmethod
    def build_head(self, width: int) -> nn.Module:
        """Return the module that maps hidden states (P, width) to outputs (P, …), or a `BatchHead`."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss (a scalar) over the batch's targets; the core weighs batches by their number of targets."""

    @abstractmethod
    def decode(self, outputs: Tensor, batch: PackedBatch) -> list[Any]:
        """Return one prediction (or one window's part of it) for each sequence of the batch, as JSON can hold it."""

    # --- what has a default

    @property
    def teaches_both_ways(self) -> bool:
        """Whether its training teaches a backbone that is read causally to be read both ways besides."""
        return False

    def build_head_on(self, backbone: Backbone) -> nn.Module:
        """Return the head for a backbone, with which it may share weights; by default `build_head` of its width."""
        return self.build_head(backbone.width)

    def notes(self, features: Mapping[str, Sequence[Features]]) -> Sequence[str]:
        """Return what a reader of the results must know of how the splits' rows were encoded; by default nothing."""
        return []

    def predicted_while_training(self, n_rows: int) -> Sequence[int]:
        """Return which rows of validation are predicted at each evaluation in training; by default all of them."""
        return range(n_rows)

    def fit(self, rows: Sequence[Row]) -> None:  # noqa: B027  (optional, not abstract)
        """Learn from the training rows what must be known before encoding, such as the label set."""

    def read_tables(self, tables: Mapping[str, Sequence[Row]]) -> None:  # noqa: B027
        """Take the tables that `Task.tables` names; called with each data set, before its rows are checked and `fit`."""

    def state(self) -> dict[str, Any]:
        """Return what `fit` learnt, as JSON can hold it; saved with the model."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take back what `state` returned."""

    def check(self, row: Row) -> None:  # noqa: B027
        """Raise `DataError` for a row that the task cannot use; the core adds the row's number to the message.

        It has the columns with their types; a row to predict on has those that prediction needs, and perhaps the others.
        """

    def windows(self, features: Features, limit: int) -> Iterable[Features]:
        """Return windows of at most `limit` tokens, or the features themselves where they fit and need not be cut."""
        return features.windows(limit)

    def shorten(self, features: Features, limit: int) -> Features:
        """Return features that fit into `limit` tokens, the same ones where they do; by default the end is cut off."""
        return features if len(features) <= limit else features.truncated(limit)

    def encode_shared(self, tokenizer: PreTrainedTokenizerBase) -> Sequence[Features]:
        """Return sequences that belong to no row but are needed by many, such as the items of a catalogue; none by default."""
        return ()

    def complete(self, features: Sequence[Features], seed: int) -> Sequence[Features]:
        """Return what one pass of training needs: its sequences and those of `shared` that its loss compares them with.

        `seed` is a function of run, step and pass; what is drawn here must be a function of it, so that a step can be
        made again. Sequences that are added have no target. By default nothing is added.
        """
        return features

    def take_shared(self, head: nn.Module, outputs: Sequence[Tensor]) -> None:  # noqa: B027
        """Take what the model makes of each of `shared`, (P, …); called once before each evaluation, and at loading."""

    def reference(self, row: Row) -> Any:
        """Return the right answer of a row in the terms of `decode`; by default the columns that prediction lacks."""
        wanted = [name for name in self.columns if name not in self.needed_for_prediction()]
        return row[wanted[0]] if len(wanted) == 1 else {name: row[name] for name in wanted}

    def right(self, prediction: Any, reference: Any) -> bool:
        """Whether a prediction is no error for the report to show; by default whether it says all that its reference says.

        A prediction may say more, such as how sure it is.
        """
        if isinstance(prediction, dict) and isinstance(reference, dict):
            return all(name in prediction and prediction[name] == value for name, value in reference.items())
        return bool(prediction == reference)

    def combine(self, row: Row, parts: list[Any]) -> Any:
        """Join what `decode` returned for the windows of one row, in their order; by default the first one's."""
        return parts[0]

    def calibrate(self, rows: Sequence[Row], parts: Sequence[list[Any]]) -> None:  # noqa: B027
        """Choose on the validation rows what `combine` needs besides, such as a threshold; kept by `state`.

        `parts` has for each row what `combine` gets. Called at each evaluation on validation, before `combine`.
        """

    def baselines(self) -> Sequence[Baseline]:
        """Return what a model must beat; by default nothing."""
        return []

    def collate(self, features: Sequence[Features]) -> Tensor | None:
        """Return the targets of a batch: one value for each sequence (N,), or for each position (P,); None without any."""
        if any(one.target is None for one in features):
            return None
        if all(isinstance(one.target, np.ndarray) for one in features):
            return torch.from_numpy(np.concatenate([one.target for one in features])).long()
        values: list[Any] = []
        for one in features:
            values.extend(one.target if one.per_position else [one.target])
        return torch.tensor(values, dtype=torch.long if all(isinstance(v, int) for v in values) else torch.float32)

    def row_from_text(self, text: str) -> Row:
        """Make a row of raw text, for `vertebra predict --text`."""
        needed = self.needed_for_prediction()
        if needed != ("text",):
            raise DataError(
                f"Task '{self.name}' cannot predict on plain text: it needs the columns {', '.join(needed)}."
            )
        return {"text": text}

    def figures(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[Figure]:
        """Return tables and confusion matrices for the report; by default none."""
        return []

    def describe(self, row: Row, features: Features, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, str]]:
        """Return (token, label) pairs for `vertebra inspect`; by default each token, with the target on its positions."""
        tokens = tokenizer.convert_ids_to_tokens(features.input_ids.tolist())
        shown = [""] * len(tokens)
        for number, position in enumerate(features.positions.tolist()):
            value = features.target[number] if features.per_position else features.target
            shown[position] = "" if value is None else str(value)
        return list(zip(tokens, shown, strict=True))

    def labels_of(self, row: Row) -> list[str]:
        """Return the labels of a row, for counting in `vertebra inspect`; by default none."""
        return []

    def needed_for_prediction(self) -> tuple[str, ...]:
        """Return the columns that a row must have at prediction."""
        if self.input_columns is not None:
            return self.input_columns
        return tuple(name for name in self.columns if name not in ("label", "score"))
