"""The settings of the tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vertebra.tasks.config import RankingConfig, SpanExtractionConfig


@dataclass(frozen=True)
class QAConfig(SpanExtractionConfig):
    """How answers are found and scored."""

    score_by: Literal["auto", "words", "characters"] = "auto"
    """What scores compare: words, as SQuAD's script, or single characters of Chinese and Japanese, as CMRC 2018's.

    auto: characters where an answer has any.
    """


@dataclass(frozen=True)
class AnswerSelectionConfig(RankingConfig):
    """How candidates are ranked."""

    shared_words: bool = True
    """Whether the head reads, beside the text, which words a candidate shares with the question."""
