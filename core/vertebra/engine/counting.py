"""How many parameters a model has, and how many of them are trained."""

from __future__ import annotations

from dataclasses import dataclass

from vertebra.engine.model import TaskModel


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters, each counted once."""

    backbone: int
    """Of the backbone, its adapters and its language-model head included."""
    trained: int
    """Those of them that are trained."""
    head: int
    """Of the heads beside them."""

    @property
    def share(self) -> float:
        """What is trained of the backbone, as a fraction."""
        return self.trained / self.backbone


def count_parameters(model: TaskModel, task: str | None = None) -> ParameterCounts:
    """Count the parameters of a model as they stand now: all of them, or those that one of its tasks uses."""
    backbone, head = (model.backbone, model.heads) if task is None else (model.backbone_of(task), model.heads[task])
    parts = [backbone, backbone.language_model or backbone, *([model.adapted] if task is None else [])]
    inside = {id(one): one for part in parts for one in part.parameters()}
    heads = {id(one): one for one in head.parameters() if id(one) not in inside}
    trained = [one for one in inside.values() if one.requires_grad]
    return ParameterCounts(
        sum(one.numel() for one in inside.values()),
        sum(one.numel() for one in trained),
        sum(one.numel() for one in heads.values()),
    )
