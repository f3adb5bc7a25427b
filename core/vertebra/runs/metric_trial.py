"""Metrics that a run asks for besides its task's: whether they can score what the task predicts, before anything is learnt."""

from __future__ import annotations

from vertebra.engine.devices import Devices
from vertebra.engine.evaluate import evaluate
from vertebra.engine.model import TaskModel
from vertebra.errors import ConfigError
from vertebra.metrics.metric import count
from vertebra.runs.prepare import Prepared


def try_metrics(part: Prepared, model: TaskModel, devices: Devices) -> None:
    """Score the first row that is evaluated, as the model is now, by the metrics that are not the task's own.

    Raises `ConfigError` for one that cannot. With several processes every one must come here.
    """
    more = [metric for metric in part.metrics if metric.name not in part.task.metrics]
    split = next((one for one in ("valid", "test") if part.splits.rows.get(one)), None)
    if not more or split is None:
        return
    rows = part.splits.rows[split][:1]
    tried = evaluate(model, part.task, split, rows, part.by_example(split)[0], (), devices)
    for metric in more:
        try:
            metric.score(count(metric, tried.predictions, tried.references, rows))
        except Exception as error:  # whatever a metric does with a value of another form
            raise ConfigError(
                f"trainer.more_metrics: {metric.name} does not go with task={part.task.name}: it cannot score the prediction "
                f"{tried.predictions[0]!s:.80} ({type(error).__name__}: {error})."
            ) from error
