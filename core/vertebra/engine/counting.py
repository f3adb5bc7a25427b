"""How many parameters a model has, and how many of them are trained."""

from __future__ import annotations

from dataclasses import dataclass

from vertebra.engine.model import TaskModel


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters, each counted once."""

    backbone: int
    """Of the backbone, its adapter and its language-model head included."""
    trained: int
    """Those of them that are trained."""
    head: int
    """Of the task's head beside them."""

    @property
    def share(self) -> float:
        """What is trained of the backbone, as a fraction."""
        return self.trained / self.backbone


def count_parameters(model: TaskModel) -> ParameterCounts:
    """Count the parameters of a model as they stand now."""
    backbone = model.backbone
    language_model = [] if backbone.language_model is None else list(backbone.language_model.parameters())
    inside = {id(one): one for one in (*backbone.parameters(), *language_model)}
    heads = {id(one): one for one in model.heads.parameters() if id(one) not in inside}
    trained = [one for one in inside.values() if one.requires_grad]
    return ParameterCounts(
        sum(one.numel() for one in inside.values()),
        sum(one.numel() for one in trained),
        sum(one.numel() for one in heads.values()),
    )
