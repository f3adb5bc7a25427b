"""Multiple choice, as a task of Vertebra; what is named here is imported when a run uses it."""

from vertebra import MetricRef, ReaderRef, TaskRef, hookimpl


@hookimpl
def register_tasks():
    return [TaskRef("multiple_choice", "vertebra_multiple_choice.task:MultipleChoice", summary="choose an answer")]


@hookimpl
def register_metrics():
    return [MetricRef("choice_accuracy", "vertebra_multiple_choice.task:ChoiceAccuracy")]


@hookimpl
def register_readers():
    return [ReaderRef("multiple_choice_sample", "vertebra_multiple_choice.sample:read", reads_path=False)]


@hookimpl
def register_config_packages():
    return ["vertebra_multiple_choice.conf"]
