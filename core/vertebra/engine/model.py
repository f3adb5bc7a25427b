"""The model of a run: one backbone, and a head for each task.

Letters: P positions that the head reads, D hidden width.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor, nn

from vertebra.engine.adapters.mixed import LoRA, MixedBackbone
from vertebra.engine.backbone import Backbone
from vertebra.engine.mixed_batch import MixedBatch
from vertebra.engine.packing import PackedBatch
from vertebra.engine.task_weights import UncertaintyWeighting
from vertebra.tasks.heads import run_head


class TaskModel(nn.Module):
    """A backbone with heads by the names of their tasks."""

    def __init__(
        self,
        backbone: Backbone,
        heads: Mapping[str, nn.Module],
        weighting: UncertaintyWeighting | None = None,
        adapted: Mapping[str, Backbone] | None = None,
    ) -> None:
        """`weighting` learns what the losses of several tasks weigh.

        `adapted` has for each task a view of the plain backbone with an adapter of its own (`adapt_each`); by default the
        backbone is the same for all.
        """
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self.weighting = weighting
        self.adapted = nn.ModuleDict(adapted or {})
        self._mixed = (
            MixedBackbone(backbone, {task: LoRA.of(one) for task, one in adapted.items()}) if adapted else None
        )

    @property
    def apart(self) -> bool:
        """Whether tasks have all that is trained for themselves, an adapter included."""
        return self._mixed is not None

    def own_parameters(self, task: str) -> list[nn.Parameter]:
        """Return what is trained for one task: its head, and its adapter where tasks are `apart`."""
        parts = [self.heads[task], *([self.adapted[task]] if self.apart else [])]
        shared = {id(one) for one in self.backbone.parameters()}
        return [one for part in parts for one in part.parameters() if one.requires_grad and id(one) not in shared]

    def trained_with(self, tasks: Collection[str]) -> list[nn.Parameter]:
        """Return what a step of these tasks trains: all but what the other tasks have for themselves alone."""
        theirs = {id(one) for task in tasks for one in self.own_parameters(task)}
        idle = {id(one) for task in self.heads if task not in tasks for one in self.own_parameters(task)} - theirs
        return [one for one in self.parameters() if one.requires_grad and id(one) not in idle]

    def backbone_of(self, task: str) -> Backbone:
        """Return the backbone as a task reads it, with its own adapter where it has one."""
        found = self.adapted[task] if self.apart else self.backbone
        assert isinstance(found, Backbone)
        return found

    def forward(self, batch: PackedBatch, task: str) -> Tensor:
        """Return a task's outputs (P, …) at the positions that its features name."""
        return self._read(task, self._hidden(batch, [(task, batch)]), batch)

    def outputs(self, batch: PackedBatch, tasks: Sequence[str]) -> list[tuple[int, PackedBatch, Tensor]]:
        """Return for each task in the stream its number in `tasks`, its sequences alone, and its outputs (P, …).

        The backbone makes one pass for all of them. Where tasks are `apart`, their sequences must be so in the stream.
        """
        if not batch.parts:
            member = batch.features[0].member
            return [(member, batch, self(batch, tasks[member]))]
        hidden_PD = self._hidden(batch, [(tasks[part.member], part.batch) for part in batch.parts])
        return [
            (
                part.member,
                part.batch,
                self._read(tasks[part.member], hidden_PD.index_select(0, part.rows_P), part.batch),
            )
            for part in batch.parts
        ]

    def _hidden(self, batch: PackedBatch, parts: Sequence[tuple[str, PackedBatch]]) -> Tensor:
        if batch.hidden_PD is not None:
            return batch.hidden_PD
        mixed = self._mixed
        hidden_PD: Tensor = self.backbone(batch) if mixed is None else mixed(MixedBatch.of(batch, parts))
        return hidden_PD

    def _read(self, task: str, hidden_PD: Tensor, batch: PackedBatch) -> Tensor:
        # Heads are small, and losses want full precision.
        return run_head(self.heads[task], hidden_PD, batch).float()

    @property
    def trained(self) -> nn.Module:
        """What training changes: all of it, the heads alone where the backbone is frozen, or what an adapter chose."""
        backbones = (self.backbone, self.adapted)
        trained = [parameter.requires_grad for one in backbones for parameter in one.parameters()]
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
