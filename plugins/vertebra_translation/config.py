"""The settings of the task."""

from __future__ import annotations

from dataclasses import dataclass

from vertebra.tasks.config import GenerationConfig


@dataclass(frozen=True)
class TranslationConfig(GenerationConfig):
    """Which languages are translated, and how translations are asked for and written."""

    prompt: str = "{source_language}: {source}\n{target_language}:"
    """What the model reads before it writes; {source} stands for the text, {source_language} and {target_language} for the
    names of the languages."""
    direction: str = "en-de"
    """The languages of the columns source and target, as codes."""
    directions: tuple[str, ...] = ()
    """What one model learns, such as [en-de, de-en]: each row is an example for each; by default `direction` alone."""
