"""The trained model on disk: a folder that plain transformers loads, with the heads and what the tasks learnt beside it.

model/backbone/      config.json, model.safetensors and the tokenizer: `AutoModel.from_pretrained` reads it, and
                     `AutoModelForCausalLM.from_pretrained` where the task writes texts
model/heads.safetensors
model/tasks.json     for each task what its `fit` learnt
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_model
from torch import nn

from vertebra.engine.loading import quiet_bars
from vertebra.engine.model import TaskModel
from vertebra.errors import RunError
from vertebra.runs.folder import RunFolder
from vertebra.tasks.heads import LanguageModelHead
from vertebra.tasks.task import Task


def save_model_folder(run: RunFolder, model: TaskModel, tasks: Mapping[str, Task]) -> None:
    """Write the model of a run, whole or not at all."""
    from vertebra.engine.checkpoints import write_folder

    def fill(folder: Path) -> None:
        save_model(own_heads(model), str(folder / "heads.safetensors"))
        RunFolder(folder).write_json("tasks.json", {name: task.state() for name, task in tasks.items()})
        save_backbone(model, folder / "backbone")

    shutil.rmtree(run.model, ignore_errors=True)  # of a run that was stopped right here
    write_folder(run.model, fill)


def save_backbone(model: TaskModel, folder: Path) -> None:
    """Write backbone and tokenizer so that plain transformers loads them."""
    backbone = model.backbone
    whole = backbone.language_model or backbone.model
    # The attention of packed batches is no setting of the model: others load it with their own.
    own = backbone.model.config._attn_implementation
    backbone.model.config._attn_implementation = None
    try:
        with quiet_bars():
            whole.save_pretrained(folder)
    finally:
        backbone.model.config._attn_implementation = own
    backbone.tokenizer.save_pretrained(folder)


def own_heads(model: TaskModel) -> nn.ModuleDict:
    """Return the heads whose weights are not saved with the backbone, as a language model's are."""
    own = {name: head for name, head in model.heads.items() if not isinstance(head, LanguageModelHead)}
    return nn.ModuleDict(own)


def load_heads(run: RunFolder, model: TaskModel) -> None:
    """Put the saved heads into the model."""
    file = run.model / "heads.safetensors"
    try:
        own_heads(model).load_state_dict(load_file(str(file)))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunError(f"Cannot read the heads in '{file}': {str(error).splitlines()[0]}") from error
