"""Ranking: one score for each candidate of a query."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from vertebra.errors import DataError
from vertebra.tasks.config import RankingConfig
from vertebra.tasks.features import Features
from vertebra.tasks.task import Row, Task
from vertebra.tasks.text_pairs import encode_pairs, shortened_head

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vertebra.engine.packing import PackedBatch


class Ranking(Task):
    """The candidates of a query in the order of how well they fit; a task of this family says its name and its metrics.

    A row has `query`, `candidates` (texts) and `labels`, 1 for each candidate that is right and 0 for each that is not.
    Query and candidate are read as one sequence, and its last token is scored. The loss is pointwise, the binary
    cross-entropy of each candidate alone: a row's candidates may be in different passes of a step, so a softmax over
    them would depend on how the step was cut. A prediction is the ranking, the best candidate first, as a list of
    {"candidate", "text", "score"} with the candidate's place in the row, from 0, and its probability of being right; a
    reference is the list of the right ones.

    Letters in names: N candidates of a batch.
    """

    family: ClassVar[str] = "ranking"
    columns: ClassVar[dict[str, type]] = {"query": str, "candidates": list, "labels": list}
    input_columns: ClassVar[tuple[str, ...] | None] = ("query", "candidates")
    too_long: ClassVar[Literal["window", "truncate", "error"]] = "truncate"
    attention: ClassVar[Literal["causal", "bidirectional"]] = "bidirectional"

    def __init__(self, config: RankingConfig | None = None) -> None:
        super().__init__(config or RankingConfig())

    # --- from rows to features

    def check(self, row: Row) -> None:
        """Refuse empty texts, no candidates at all, candidates without a label each, and labels that are not 0 or 1."""
        if not row["query"].strip():
            raise DataError("the query is empty.")
        if not row["candidates"]:
            raise DataError("there are no candidates.")
        for number, candidate in enumerate(row["candidates"], start=1):
            if not isinstance(candidate, str) or not candidate.strip():
                raise DataError(f"candidate {number} must be a text that is not empty, not {candidate!r:.60}.")
        if "labels" in row:
            labels = labels_of(row)
            if len(labels) != len(row["candidates"]):
                raise DataError(f"{len(row['candidates'])} candidates have {len(labels)} labels; each needs one.")

    def fit(self, rows: Sequence[Row]) -> None:
        """Refuse training rows that show nothing to learn."""
        for label, word in ((1, "right"), (0, "wrong")):
            if not any(label in labels_of(row) for row in rows):
                raise DataError(f"No candidate of the training rows is {word}: there is nothing to learn.")

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> list[Features]:
        """Turn each candidate into one sequence with its label as the target."""
        self.check(row)
        pairs = encode_pairs(row["query"], row["candidates"], tokenizer)
        labels: Sequence[int | None] = labels_of(row) if "labels" in row else [None] * len(pairs)
        return [
            Features(pair.ids, target=label, note={"head": pair.head})
            for pair, label in zip(pairs, labels, strict=True)
        ]

    def windows(self, features: Features, limit: int) -> Iterable[Features]:
        """Return the features as they are; `DataError` where they do not fit, for one candidate has one score."""
        if len(features) > limit:
            raise DataError(
                f"A candidate with its query has {len(features)} tokens; the context is {limit}. Candidates are not read in "
                "windows: use data.too_long=truncate."
            )
        return [features]

    def shorten(self, features: Features, limit: int) -> Features:
        """Cut the end of the candidate, and of a query that is longer than half of what fits."""
        if len(features) <= limit:
            return features
        ids, head = features.input_ids, features.note["head"]
        kept = shortened_head(ids, head, limit)
        candidate = ids[head:-1][: limit - len(kept) - 1]
        shorter = np.concatenate([kept, candidate, ids[-1:]])
        return replace(features, input_ids=shorter, positions=np.asarray([len(shorter) - 1], dtype=np.int32))

    # --- from hidden states to a ranking

    def build_head(self, width: int) -> nn.Module:
        """Return dropout and a linear layer, (N, width) to (N, 1)."""
        return nn.Sequential(nn.Dropout(self.config.dropout), nn.Linear(width, 1))

    def loss(self, outputs_N1: Tensor, targets_N: Tensor) -> Tensor:
        """Return the mean binary cross-entropy of the candidates."""
        return F.binary_cross_entropy_with_logits(outputs_N1.squeeze(1), targets_N.to(outputs_N1.dtype))

    def decode(self, outputs_N1: Tensor, batch: PackedBatch) -> list[float]:
        """Return the log-odds of each candidate; unlike probabilities they never round to the same number."""
        scores: list[float] = outputs_N1.squeeze(1).tolist()
        return scores

    def combine(self, row: Row, parts: list[Any]) -> list[dict[str, Any]]:
        """Return the candidates, the best one first; of equal ones, the first one."""
        odds = np.asarray(parts, dtype=np.float64)
        probabilities = np.exp(-np.logaddexp(0, -odds)).tolist()  # the sigmoid, without overflow
        order = np.argsort(-odds, kind="stable").tolist()
        return [candidate_of(row, place) | {"score": probabilities[place]} for place in order]

    def reference(self, row: Row) -> list[dict[str, Any]]:
        """Return the right candidates, in the row's order."""
        return [candidate_of(row, place) for place, label in enumerate(labels_of(row)) if label]

    def right(self, prediction: Any, reference: Any) -> bool:
        """Whether the right candidates, and no other, stand above the rest."""
        first = {one["candidate"] for one in prediction[: len(reference)]}
        return first == {one["candidate"] for one in reference}

    # --- for `vertebra inspect`

    def labels_of(self, row: Row) -> list[str]:
        """Return the labels of the candidates."""
        return [str(label) for label in labels_of(row)]


def candidate_of(row: Row, place: int) -> dict[str, Any]:
    """Return a candidate as predictions and references name it."""
    return {"candidate": place, "text": row["candidates"][place]}


def labels_of(row: Row) -> list[int]:
    """Return the labels of a row's candidates as 0 and 1; `DataError` for any other."""
    known = {"0": 0, "1": 1, "false": 0, "true": 1}
    labels = []
    for number, given in enumerate(row["labels"], start=1):
        label = known.get(str(given).lower())
        if label is None:
            raise DataError(f"label {number} must be 0 or 1, not {given!r:.60}.")
        labels.append(label)
    return labels
