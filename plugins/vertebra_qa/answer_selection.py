"""Answer selection: which of several texts answers a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from vertebra.tasks.baseline import Baseline
from vertebra.tasks.features import Features
from vertebra.tasks.ranking import Ranking, labels_of
from vertebra.tasks.task import Row
from vertebra_qa.config import AnswerSelectionConfig
from vertebra_qa.lexical import Rarity, shared_with

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class AnswerSelection(Ranking):
    """The candidates of a question, the likeliest answer first."""

    name: ClassVar[str] = "answer_selection"
    metrics: ClassVar[tuple[str, ...]] = ("answer_map", "answer_mrr", "answer_p_at_1")

    def __init__(self, config: AnswerSelectionConfig | None = None) -> None:
        super().__init__(config or AnswerSelectionConfig())
        self.rarity: Rarity | None = None
        """How rare words are among the training candidates; None where the text alone is read."""
        self._weights: Sequence[float] = (0.0, 0.0)

    def fit(self, rows: Sequence[Row]) -> None:
        """Count the words of the training candidates, and find what sharing them with the question is worth."""
        super().fit(rows)
        if not self.config.shared_words:
            return
        from vertebra_qa.shared_words import fitted

        self.rarity = rarity = Rarity(candidate for row in rows for candidate in row["candidates"])
        shared = [one for row in rows for one in shared_with(row["query"], row["candidates"], rarity)]
        self._weights = fitted(shared, [label for row in rows for label in labels_of(row)])

    def state(self) -> dict[str, Any]:
        """Return how often words were seen."""
        return {} if self.rarity is None else {"words": self.rarity.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the counts back; a run of a version that had none reads the text alone."""
        self.rarity = Rarity.restored(state["words"]) if "words" in state else None

    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> list[Features]:
        """Turn each candidate into one sequence, with a note of what it shares with the question."""
        features = super().encode(row, tokenizer)
        if self.rarity is None:
            return features
        from vertebra_qa.shared_words import NOTE

        shared = shared_with(row["query"], row["candidates"], self.rarity)
        return [
            replace(one, note={**one.note, NOTE: list(numbers)}) for one, numbers in zip(features, shared, strict=True)
        ]

    def build_head(self, width: int) -> nn.Module:
        """Return a linear layer behind dropout, (N, width) to (N, 1), and with `shared_words` what these add."""
        if self.rarity is None:
            return super().build_head(width)
        from vertebra_qa.shared_words import SharedWordsHead

        return SharedWordsHead(width, self.config.dropout, self._weights)

    def baselines(self) -> Sequence[Baseline]:
        """Return the words that a candidate shares with the question, weighted by how rare they are."""
        from vertebra_qa.overlap import SharedWords

        return [SharedWords(self)]
