"""Named entities: which words of a text name a person, a place, an organisation … This module imports nothing heavy."""

from __future__ import annotations

from vertebra.host.hookspecs import hookimpl
from vertebra.host.refs import MetricRef, ReaderRef, TaskRef


@hookimpl
def register_tasks() -> list[TaskRef]:
    """Bring the task."""
    summary = "Find named entities in a text."
    return [TaskRef("ner", "vertebra_ner.task:NER", config="vertebra_ner.config:NERConfig", summary=summary)]


@hookimpl
def register_metrics() -> list[MetricRef]:
    """Bring the scores over entities, and the accuracy over words."""
    return [
        MetricRef("entity_f1", "vertebra_ner.metrics:EntityF1", tasks=("token-classification",)),
        MetricRef("entity_precision", "vertebra_ner.metrics:EntityPrecision", tasks=("token-classification",)),
        MetricRef("entity_recall", "vertebra_ner.metrics:EntityRecall", tasks=("token-classification",)),
        MetricRef("token_accuracy", "vertebra_ner.metrics:TokenAccuracy", tasks=("token-classification",)),
    ]


@hookimpl
def register_readers() -> list[ReaderRef]:
    """Bring the synthetic sample."""
    made = "sentences made from a seed"
    return [ReaderRef("ner_sample", "vertebra_ner.sample:read", summary=made, reads_path=False)]


@hookimpl
def register_config_packages() -> list[str]:
    """Bring the data options `ner/…`."""
    return ["vertebra_ner.conf"]
