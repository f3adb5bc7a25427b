"""The part of speech of each word, as a task of Vertebra; what is named here is imported when a run uses it."""

from vertebra import MetricRef, ReaderRef, TaskRef, hookimpl


@hookimpl
def register_tasks():
    config = "vertebra.tasks.config:TokenClassificationConfig"
    return [TaskRef("pos", "vertebra_pos.task:PartOfSpeech", config=config, summary="the part of speech of each word")]


@hookimpl
def register_metrics():
    return [MetricRef("word_accuracy", "vertebra_pos.task:WordAccuracy")]


@hookimpl
def register_readers():
    return [ReaderRef("pos_sample", "vertebra_pos.sample:read", reads_path=False)]


@hookimpl
def register_config_packages():
    return ["vertebra_pos.conf"]
