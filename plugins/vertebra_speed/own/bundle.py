"""Vertebra's tasks over one backbone, as `vertebra.load` puts them together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict

from vertebra.config.adapters import LoRAConfig
from vertebra.config.schema import BackboneConfig, GPUConfig, RunConfig, TaskChoice
from vertebra.engine.adapters.adapter import adapt, base_fingerprint
from vertebra.engine.adapters.by_peft import PeftAdapter
from vertebra.engine.adapters.mixed import LoRA, MixedBackbone
from vertebra.engine.adapters.views import view
from vertebra.engine.backbone import Backbone, turn_for_inference
from vertebra.engine.devices import set_up
from vertebra.engine.loading import load_backbone
from vertebra.engine.model import TaskModel
from vertebra.host.manager import create_host
from vertebra.runs.folder import RunFolder
from vertebra.runs.load import LoadedRun
from vertebra.runs.loaded_tasks import LoadedTasks
from vertebra_speed.bundle_work import RANK, SCALE, Answering, Chore, read_chores, read_stream
from vertebra_speed.workload import Workload, linear_of


class VertebraTasks(Answering):
    """Tasks over one backbone, and a stream of texts for them."""

    def __init__(self, folder: str, threads: int, requests: int, tasks: int) -> None:
        super().__init__(requests)
        chores = read_chores(folder, tasks)
        self.stream, self.tokens = read_stream(folder, [one.name for one in chores])
        self.tasks = load(str(Workload.read(folder).model), chores, threads)

    def answers(self) -> dict[str, Any]:
        """Return the labels of each text's words, or its one label, in the stream's order."""
        return {"answers": self.all_of(self.stream)}

    def at_once(self, given: list[tuple[str, str]]) -> list[Any]:
        """Return what the tasks predict."""
        return self.tasks.predict_mixed(given)


def load(model: str, chores: list[Chore], threads: int) -> LoadedTasks:
    """Put the tasks on one backbone, as `vertebra.load` does with what it reads of runs."""
    host = create_host()
    devices = set_up(GPUConfig(device="cpu", precision="fp32", threads=threads))
    base = load_backbone(BackboneConfig("hf", path=model, attention="causal"), host)
    fingerprint = base_fingerprint(base)
    turn_for_inference(base)
    runs = {}
    for one in chores:
        config = RunConfig((TaskChoice(one.task().name),), adapter=LoRAConfig(rank=RANK, alpha=RANK * SCALE))
        backbone = adapt(view(base), config, host, fingerprint)
        put(backbone, one)
        task = one.task()
        head = task.build_head(base.width)
        linear = linear_of(head)
        with torch.no_grad():
            linear.weight.copy_(one.tensors["weight"])
            if linear.bias is not None:
                linear.bias.copy_(one.tensors["bias"])
        model_of_task = TaskModel(backbone, {task.name: head}).eval()
        runs[one.name] = LoadedRun(RunFolder(Path()), config, task, model_of_task, devices)
    adapters = {name: LoRA.of(run.model.backbone) for name, run in runs.items()}
    return LoadedTasks(runs, base, MixedBackbone(base, adapters), devices)


def put(backbone: Backbone, chore: Chore) -> None:
    """Put a task's matrices into its adapter."""
    assert isinstance(backbone.adapter, PeftAdapter)
    letters = {"A": "lora_A", "B": "lora_B"}
    found = {
        f"base_model.model.{name[:-2]}.{letters[name[-1]]}.weight": tensor
        for name, tensor in chore.tensors.items()
        if name[-2:] in (".A", ".B")
    }
    assert found.keys() == backbone.adapter.tensors().keys()
    set_peft_model_state_dict(backbone.adapter.model, found)
