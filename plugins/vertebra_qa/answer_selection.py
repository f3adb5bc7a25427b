"""Answer selection: which of several texts answers a question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from vertebra.tasks.baseline import Baseline
from vertebra.tasks.ranking import Ranking


class AnswerSelection(Ranking):
    """The candidates of a question, the likeliest answer first."""

    name: ClassVar[str] = "answer_selection"
    metrics: ClassVar[tuple[str, ...]] = ("answer_map", "answer_mrr", "answer_p_at_1")

    def baselines(self) -> Sequence[Baseline]:
        """Return the words that a candidate shares with the question, weighted by how rare they are."""
        from vertebra_qa.overlap import SharedWords

        return [SharedWords(self)]
