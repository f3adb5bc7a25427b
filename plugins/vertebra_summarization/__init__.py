"""Summarization: a short text that says what a long one says. This module imports nothing heavy."""

from __future__ import annotations

from vertebra.host.hookspecs import hookimpl
from vertebra.host.refs import MetricRef, ReaderRef, TaskRef


@hookimpl
def register_tasks() -> list[TaskRef]:
    """Bring the task."""
    return [
        TaskRef(
            "summarization",
            "vertebra_summarization.task:Summarization",
            config="vertebra_summarization.config:SummarizationConfig",
            summary="Write a short text that says what a long one says.",
        )
    ]


@hookimpl
def register_metrics() -> list[MetricRef]:
    """Bring ROUGE, and what it does not see: the length, and how much is copied."""
    return [
        MetricRef("rouge1", "vertebra_summarization.metrics:Rouge1", tasks=("generation",)),
        MetricRef("rouge2", "vertebra_summarization.metrics:Rouge2", tasks=("generation",)),
        MetricRef("rougeL", "vertebra_summarization.metrics:RougeL", tasks=("generation",)),
        MetricRef(
            "summary_length_ratio",
            "vertebra_summarization.metrics:SummaryLengthRatio",
            plain=True,
            tasks=("generation",),
        ),
        MetricRef("novel_bigrams", "vertebra_summarization.metrics:NovelBigrams", tasks=("generation",)),
    ]


@hookimpl
def register_readers() -> list[ReaderRef]:
    """Bring the synthetic sample, and files whose references stand in several columns."""
    made = "office notes made from a seed"
    return [
        ReaderRef(
            "summaries",
            "vertebra_summarization.reader:read",
            summary="texts with one or more summaries",
            splits="files",
        ),
        ReaderRef("summarization_sample", "vertebra_summarization.sample:read", summary=made, reads_path=False),
    ]


@hookimpl
def register_config_packages() -> list[str]:
    """Bring the data options `summarization/…`."""
    return ["vertebra_summarization.conf"]
