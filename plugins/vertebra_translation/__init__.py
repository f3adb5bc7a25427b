"""Translation: the same text in another language. This module imports nothing heavy."""

from __future__ import annotations

from vertebra.host.hookspecs import hookimpl
from vertebra.host.refs import MetricRef, ReaderRef, TaskRef


@hookimpl
def register_tasks() -> list[TaskRef]:
    """Bring the task."""
    return [
        TaskRef(
            "translation",
            "vertebra_translation.task:Translation",
            config="vertebra_translation.config:TranslationConfig",
            summary="Write a text in another language.",
        )
    ]


@hookimpl
def register_metrics() -> list[MetricRef]:
    """Bring the scores of sacrebleu."""
    return [
        MetricRef("bleu", "vertebra_translation.metrics:Bleu", tasks=("generation",)),
        MetricRef("chrf", "vertebra_translation.metrics:ChrF", tasks=("generation",)),
        MetricRef(
            "translation_length_ratio",
            "vertebra_translation.metrics:TranslationLengthRatio",
            plain=True,
            tasks=("generation",),
        ),
    ]


@hookimpl
def register_readers() -> list[ReaderRef]:
    """Bring parallel text files, lines of sentence pairs, and the synthetic sample."""
    made = "sentences of two made-up languages, from a seed"
    return [
        ReaderRef(
            "parallel",
            "vertebra_translation.parallel:read",
            summary="two files, line by line translations",
            splits="parts",
        ),
        ReaderRef("sentence_pairs", "vertebra_translation.pairs:read", summary="a sentence, a tab, its translation"),
        ReaderRef("translation_sample", "vertebra_translation.sample:read", summary=made, reads_path=False),
    ]


@hookimpl
def register_config_packages() -> list[str]:
    """Bring the data options `translation/…`."""
    return ["vertebra_translation.conf"]
