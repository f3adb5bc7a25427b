"""The model of a run: one backbone, and a head for each task.

Letters: P positions that the head reads, D hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from vertebra.engine.backbone import Backbone
from vertebra.engine.packing import PackedBatch
from vertebra.engine.task_weights import UncertaintyWeighting
from vertebra.tasks.heads import run_head


class TaskModel(nn.Module):
    """A backbone with heads by the names of their tasks."""

    def __init__(
        self, backbone: Backbone, heads: Mapping[str, nn.Module], weighting: UncertaintyWeighting | None = None
    ) -> None:
        """`weighting` learns what the losses of several tasks weigh."""
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self.weighting = weighting

    def forward(self, batch: PackedBatch, task: str) -> Tensor:
        """Return a task's outputs (P, …) at the positions that its features name."""
        return self._read(task, self._hidden(batch), batch)

    def outputs(self, batch: PackedBatch, tasks: Sequence[str]) -> list[tuple[int, PackedBatch, Tensor]]:
        """Return for each task in the stream its number in `tasks`, its sequences alone, and its outputs (P, …).

        The backbone makes one pass for all of them.
        """
        if not batch.parts:
            member = batch.features[0].member
            return [(member, batch, self(batch, tasks[member]))]
        hidden_PD = self._hidden(batch)
        return [
            (
                part.member,
                part.batch,
                self._read(tasks[part.member], hidden_PD.index_select(0, part.rows_P), part.batch),
            )
            for part in batch.parts
        ]

    def _hidden(self, batch: PackedBatch) -> Tensor:
        hidden_PD: Tensor = self.backbone(batch) if batch.hidden_PD is None else batch.hidden_PD
        return hidden_PD

    def _read(self, task: str, hidden_PD: Tensor, batch: PackedBatch) -> Tensor:
        # Heads are small, and losses want full precision.
        return run_head(self.heads[task], hidden_PD, batch).float()

    @property
    def trained(self) -> nn.Module:
        """What training changes: all of it, the heads alone where the backbone is frozen, or what an adapter chose."""
        trained = [parameter.requires_grad for parameter in self.backbone.parameters()]
        return self if all(trained) else Part(self) if any(trained) or self.weighting is not None else self.heads


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
