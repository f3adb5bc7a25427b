"""The trained model on disk: a folder that plain transformers loads, with the heads and what the tasks learnt beside it.

model/backbone/      config.json, model.safetensors and the tokenizer: `AutoModel.from_pretrained` reads it
model/heads.safetensors
model/tasks.json     for each task what its `fit` learnt
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_model

from vertebra.engine.loading import quiet_bars
from vertebra.engine.model import TaskModel
from vertebra.errors import RunError
from vertebra.runs.folder import RunFolder
from vertebra.tasks.task import Task


def save_model_folder(run: RunFolder, model: TaskModel, tasks: Mapping[str, Task]) -> None:
    """Write the model of a run, whole or not at all."""
    from vertebra.engine.checkpoints import write_folder

    def fill(folder: Path) -> None:
        save_model(model.heads, str(folder / "heads.safetensors"))
        RunFolder(folder).write_json("tasks.json", {name: task.state() for name, task in tasks.items()})
        save_backbone(model, folder / "backbone")

    shutil.rmtree(run.model, ignore_errors=True)  # of a run that was stopped right here
    write_folder(run.model, fill)


def save_backbone(model: TaskModel, folder: Path) -> None:
    """Write backbone and tokenizer so that plain transformers loads them."""
    backbone = model.backbone
    # The attention of packed batches is no setting of the model: others load it with their own.
    own = backbone.model.config._attn_implementation
    backbone.model.config._attn_implementation = None
    try:
        with quiet_bars():
            backbone.model.save_pretrained(folder)
    finally:
        backbone.model.config._attn_implementation = own
    backbone.tokenizer.save_pretrained(folder)


def load_heads(run: RunFolder, model: TaskModel) -> None:
    """Put the saved heads into the model."""
    file = run.model / "heads.safetensors"
    try:
        model.heads.load_state_dict(load_file(str(file)))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunError(f"Cannot read the heads in '{file}': {str(error).splitlines()[0]}") from error
