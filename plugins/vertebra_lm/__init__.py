"""Language modelling: a backbone learns from running text. This module imports nothing heavy."""

from __future__ import annotations

from vertebra.host.hookspecs import hookimpl
from vertebra.host.refs import MetricRef, ReaderRef, TaskRef


@hookimpl
def register_tasks() -> list[TaskRef]:
    """Bring both tasks."""
    return [
        TaskRef(
            "lm",
            "vertebra_lm.task:LanguageModelling",
            config="vertebra_lm.config:LanguageModellingConfig",
            summary="Learn to predict the next token of texts.",
        ),
        TaskRef(
            "mntp",
            "vertebra_lm.masked:MaskedNextToken",
            config="vertebra_lm.config:MaskedNextTokenConfig",
            summary="Learn to look in both directions, by predicting masked tokens.",
        ),
    ]


@hookimpl
def register_metrics() -> list[MetricRef]:
    """Bring the scores of predicted tokens."""
    return [
        MetricRef("bits_per_byte", "vertebra_lm.metrics:BitsPerByte", plain=True, tasks=("corpus",)),
        MetricRef("bits_per_token", "vertebra_lm.metrics:BitsPerToken", plain=True, tasks=("corpus",)),
        MetricRef("token_hits", "vertebra_lm.metrics:TokenHits", tasks=("corpus",)),
    ]


@hookimpl
def register_readers() -> list[ReaderRef]:
    """Bring the synthetic sample."""
    made = "stories made from a seed"
    return [ReaderRef("lm_sample", "vertebra_lm.sample:read", summary=made, reads_path=False)]


@hookimpl
def register_config_packages() -> list[str]:
    """Bring the data options `lm/…` and `mntp/…`."""
    return ["vertebra_lm.conf"]
