"""What the trainer gets of each task of a run, and what the tasks' last evaluations come to together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vertebra.config.schema import RunConfig
from vertebra.engine.devices import Devices
from vertebra.engine.evaluate import Evaluation
from vertebra.engine.events import EvaluationEnd
from vertebra.engine.members import LOSS, Member, evaluation_end, together
from vertebra.engine.model import TaskModel
from vertebra.engine.trainer import Trainer
from vertebra.metrics.metric import Metric
from vertebra.runs.prepare import Prepared


def member_of(part: Prepared, model: TaskModel, devices: Devices, config: RunConfig) -> Member:
    """Return what the trainer knows of a task."""
    rate = next(one.rate for one in config.tasks if one.name == part.task.name)

    def evaluate() -> Evaluation:
        return part.evaluate("valid", model, devices, while_training=True)

    return Member(
        part.task,
        part.by_example("train"),
        [row["id"] for row in part.splits.rows["train"]],
        evaluate if "valid" in part.splits.rows else None,
        _higher_is_better(config, part.metrics),
        part.choice.weight,
        part.choice.share,
        1.0 if rate == "auto" else rate,
    )


def last_evaluations(trainer: Trainer, evaluations: Mapping[str, Sequence[Evaluation]]) -> dict[str, EvaluationEnd]:
    """Return the last evaluation of each split, of all tasks together."""
    found: dict[str, EvaluationEnd] = {}
    for split in ("valid", "test"):
        of_split = {
            member.task.name: one
            for member in trainer.members
            for one in evaluations[member.task.name]
            if one.split == split
        }
        if not of_split:
            continue
        ends = {
            name: evaluation_end(one, step=trainer.progress.step, epoch=trainer.epoch) for name, one in of_split.items()
        }
        found[split] = together(trainer.members, ends, best=False)
    return found


def _higher_is_better(config: RunConfig, metrics: Sequence[Metric]) -> bool:
    """Whether that is so of the metric that picks the best checkpoint, or of the first one where the loss does."""
    named = config.trainer.metric
    wanted = metrics[0].name if named in (None, LOSS) else named
    return next((metric.higher_is_better for metric in metrics if metric.name == wanted), True)
