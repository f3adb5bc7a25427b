"""The families that a new plugin can have, and what differs between their packages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """What the templates must know of a family; the files that only it has are in the folder of its name."""

    summary: str
    """What a task of this family does, as the command line lists it."""
    columns: dict[str, str]
    """The columns of a row, and what stands in them."""
    base: str
    """The class that the task derives from, of `vertebra`."""
    config: str
    """The dataclass that its settings derive from, as `module:class`."""
    metrics: tuple[tuple[str, str], ...] = ()
    """The metrics that the package brings: the end of the name, and the class; none where the core's are used."""
    plain: bool = False
    """Whether these are no shares, which are shown in percent."""
    dependencies: tuple[str, ...] = ()
    """What the package needs besides Vertebra."""


FAMILIES = {
    "sequence-classification": Family(
        summary="one label for a text, or several",
        columns={"text": "the text", "label": "its label"},
        base="SequenceClassification",
        config="vertebra.tasks.config:SequenceClassificationConfig",
    ),
    "token-classification": Family(
        summary="one label for each word",
        columns={"tokens": "the words, a list", "tags": "their labels, as many"},
        base="TokenClassification",
        config="vertebra.tasks.config:TokenClassificationConfig",
        metrics=(("accuracy", "WordAccuracy"),),
    ),
    "span": Family(
        summary="the part of a text that answers a question",
        columns={
            "question": "the question",
            "context": "the text",
            "answers": 'a list of {"text", "start"}, the place of the first character; empty where there is none',
        },
        base="SpanExtraction",
        config="vertebra.tasks.config:SpanExtractionConfig",
        metrics=(("exact_match", "ExactMatch"),),
    ),
    "ranking": Family(
        summary="several texts in the order of how well they fit a query",
        columns={
            "query": "what is asked for",
            "candidates": "the texts to choose from, a list",
            "labels": "1 for each one that fits and 0 for each that does not",
        },
        base="Ranking",
        config="vertebra.tasks.config:RankingConfig",
        metrics=(("reciprocal_rank", "MeanReciprocalRank"), ("first_right", "FirstRight")),
    ),
    "generation": Family(
        summary="a text for a text",
        columns={"text": "what is read", "answer": "what is written"},
        base="Generation",
        config="vertebra.tasks.config:GenerationConfig",
        metrics=(("exact_match", "ExactMatch"),),
    ),
    "custom": Family(
        summary="anything else; the example gives a text a number",
        columns={"text": "the text", "score": "its number"},
        base="Task",
        config="vertebra.config.schema:Strict",
        metrics=(("error", "MeanError"),),
        plain=True,
    ),
}
