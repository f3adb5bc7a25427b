"""How easily a text reads, as a task of Vertebra; what is named here is imported when a run uses it."""

from vertebra import MetricRef, ReaderRef, TaskRef, hookimpl


@hookimpl
def register_tasks():
    return [TaskRef("readability", "vertebra_readability.task:Readability", summary="how easily a text reads")]


@hookimpl
def register_metrics():
    return [MetricRef("spearman", "vertebra_readability.metrics:Spearman")]


@hookimpl
def register_readers():
    return [ReaderRef("readability_sample", "vertebra_readability.sample:read", reads_path=False)]


@hookimpl
def register_config_packages():
    return ["vertebra_readability.conf"]
