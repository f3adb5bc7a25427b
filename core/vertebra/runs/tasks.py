"""Make a task, and its metrics, from their registered names."""

from __future__ import annotations

from collections.abc import Sequence

from vertebra.config.schema import TaskChoice
from vertebra.errors import ConfigError, PluginError
from vertebra.host.manager import Host
from vertebra.metrics.metric import Metric
from vertebra.tasks.task import Task


def load_task(choice: TaskChoice, host: Host) -> Task:
    """Make the chosen task, with its configuration or with the defaults of it."""
    ref = host.get("task", choice.name)
    default = ref.load_config()
    config = choice.config if choice.config is not None or default is None else default()
    task = ref.load()(config)
    if not isinstance(task, Task) or task.name != choice.name:
        raise PluginError(f"'{ref.target}', registered as task '{choice.name}', is not a vertebra.Task of that name.")
    return task


def load_metrics(task: Task, host: Host, more: Sequence[str] = ()) -> tuple[Metric, ...]:
    """Make the metrics that a task names, and behind them those that a run asks for besides.

    Raises `ConfigError` where one of these does not find in the task what it needs.
    """
    own = [host.get("metric", name).load().for_task(task) for name in dict.fromkeys(task.metrics)]
    besides = [_besides(name, task, host) for name in dict.fromkeys(more) if name not in task.metrics]
    return (*own, *besides)


def _besides(name: str, task: Task, host: Host) -> Metric:
    owner: type[Metric] = host.get("metric", name).load()
    try:
        return owner.for_task(task)
    except Exception as error:  # whatever a metric does with a task of another kind
        raise ConfigError(
            f"trainer.more_metrics: {name} does not go with task={task.name} ({type(error).__name__}: {error})."
        ) from error
