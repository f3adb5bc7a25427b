"""The settings of the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from vertebra.tasks.config import GenerationConfig


@dataclass(frozen=True)
class SummarizationConfig(GenerationConfig):
    """How summaries are asked for, written and compared."""

    after_training: ClassVar[frozenset[str]] = GenerationConfig.after_training | {"language", "references"}

    prompt: str = "{document}\n\nTL;DR:"
    """What the model reads before it writes; {document} stands for the text, which is cut where it is too long."""
    language: str = "auto"
    """How ROUGE finds words. en: as rouge-score does, with stems; any other code: words of every script, and single Chinese
    and Japanese characters; auto: en where a text's letters are mostly those of English, and none Chinese or Japanese."""
    references: Literal["all", "first"] = "all"
    """Which of several summaries a prediction is compared with, and counted by the nearest: all, or the first one alone."""
