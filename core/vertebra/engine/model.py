"""The model of a run: one backbone, and a head for each task.

Letters: P positions that the head reads, D hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from vertebra.engine.backbone import Backbone
from vertebra.engine.packing import PackedBatch
from vertebra.tasks.heads import run_head


class TaskModel(nn.Module):
    """A backbone with heads by the names of their tasks."""

    def __init__(self, backbone: Backbone, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)

    def forward(self, batch: PackedBatch, task: str) -> Tensor:
        """Return a task's outputs (P, …) at the positions that its features name."""
        hidden_PD = self.backbone(batch) if batch.hidden_PD is None else batch.hidden_PD
        # Heads are small, and losses want full precision.
        return run_head(self.heads[task], hidden_PD, batch).float()

    @property
    def trained(self) -> nn.Module:
        """What training changes: all of it, the heads alone where the backbone is frozen, or what an adapter chose."""
        trained = [parameter.requires_grad for parameter in self.backbone.parameters()]
        return self if all(trained) else Part(self) if any(trained) else self.heads


class Part(nn.Module):
    """What training changes of a model that is trained in part, over the same tensors: to be saved, and loaded into."""

    def __init__(self, model: TaskModel) -> None:
        super().__init__()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                self.register_parameter(_flat(name), parameter)
        for name, buffer in model.named_buffers():
            if name.startswith(("heads.", "backbone.state.")):
                self.register_buffer(_flat(name), buffer)


def _flat(name: str) -> str:
    return name.replace(".", "/")
