"""Extractive question answering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from vertebra.report.figures import Figure
from vertebra.tasks.baseline import Baseline
from vertebra.tasks.span_extraction import SpanExtraction
from vertebra_qa.agreement import f1
from vertebra_qa.config import QAConfig
from vertebra_qa.figures import by_answer_length, by_kind, by_question_word


class QA(SpanExtraction):
    """The answer to a question as a span of a text.

    Predictions are {"text", "start", "end", "score", "n_best"}; the text is empty where no answer is held to be there.
    """

    name: ClassVar[str] = "qa"
    metrics: ClassVar[tuple[str, ...]] = ("answer_f1", "exact_match")

    def __init__(self, config: QAConfig | None = None) -> None:
        super().__init__(config or QAConfig())

    def agreement(self, text: str, answers: Sequence[str]) -> float:
        """Return the F1, which the threshold for giving no answer is chosen by."""
        return f1(text, answers, self.config.score_by)

    def baselines(self) -> Sequence[Baseline]:
        """Return the overlap of words near a span with the question's."""
        from vertebra_qa.overlap import WordOverlap

        return [WordOverlap(self)]

    def figures(self, predictions: Sequence[Any], references: Sequence[Any]) -> list[Figure]:
        """Return the scores with and without an answer, by question word, and by the answer's length."""
        if not references:
            return []
        tables = (by_kind, by_question_word, by_answer_length)
        return [table(predictions, references, self.config.score_by) for table in tables]
