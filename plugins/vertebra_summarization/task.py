"""Summarization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from vertebra.tasks.baseline import Baseline
from vertebra.tasks.generation import Generation
from vertebra.tasks.task import Row
from vertebra_summarization.baselines import Lead
from vertebra_summarization.config import SummarizationConfig


class Summarization(Generation):
    """A summary of a document.

    A row's `summary` is a text, or a list of texts by several people: the model learns the first, and a prediction is
    compared with each of them, of which the nearest counts.
    """

    name: ClassVar[str] = "summarization"
    columns: ClassVar[dict[str, type]] = {"document": str, "summary": object}
    metrics: ClassVar[tuple[str, ...]] = ("rougeL", "rouge1", "rouge2", "summary_length_ratio", "novel_bigrams")
    source: ClassVar[str] = "document"
    target: ClassVar[str] = "summary"

    config: SummarizationConfig

    def __init__(self, config: SummarizationConfig | None = None) -> None:
        super().__init__(config or SummarizationConfig())

    def references(self, row: Row) -> list[str]:
        """Return the summaries that a prediction is compared with."""
        found = super().references(row)
        return found if self.config.references == "all" else found[:1]

    def baselines(self) -> Sequence[Baseline]:
        """Return the beginning of the document."""
        return [Lead(self)]
