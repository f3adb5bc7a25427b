"""An adapter for each of several tasks that are trained together, over one backbone that stays as it is.

Each stands in a view of the backbone, put there by the code that does it for a run of that task alone. A step's passes are
those of `MixedBackbone`, which takes the adapters' parameters out of the views.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from vertebra.config.schema import RunConfig
from vertebra.engine.adapters.adapter import Adapter, adapt, base_fingerprint, freeze
from vertebra.engine.adapters.views import view
from vertebra.engine.backbone import Backbone
from vertebra.host.manager import Host


class AdapterOfEach(Adapter):
    """The adapters of several tasks, saved by the tasks' names; each folder is that of a run of the task alone.

    They are loaded one at a time, each on a backbone of its own.
    """

    merges = False

    def __init__(self, backbone: Backbone, adapted: Mapping[str, Backbone]) -> None:
        """Take the plain backbone, and each task's view of it with its adapter."""
        super().__init__(backbone)
        self._adapters = {task: one.adapter for task, one in adapted.items() if one.adapter is not None}

    def tensors(self) -> dict[str, Tensor]:
        """Return what is saved, by the names of task and tensor."""
        return {
            f"{task}.{name}": tensor for task, one in self._adapters.items() for name, tensor in one.tensors().items()
        }

    def save(self, folder: Path) -> None:
        """Write each adapter into a folder of its task's name."""
        folder.mkdir(parents=True)
        for task, one in self._adapters.items():
            one.save(folder / task)


def adapt_each(backbone: Backbone, tasks: Iterable[str], config: RunConfig, host: Host) -> dict[str, Backbone]:
    """Return for each task a view of the backbone with the configured adapter, as `adapt` makes it; all else is frozen.

    Raises `BackboneError` where the adapter finds no place in the model.
    """
    fingerprint = base_fingerprint(backbone)
    freeze(backbone)
    writes = backbone.language_model is not None
    adapted = {
        task: adapt(view(backbone, language_model=writes, same_parameters=True), config, host, fingerprint)
        for task in tasks
    }
    backbone.adapter = AdapterOfEach(backbone, adapted)
    backbone.adapter.base_fingerprint = fingerprint
    return adapted
