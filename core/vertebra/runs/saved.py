"""The trained model on disk: a folder that plain transformers loads, with the heads and what the tasks learnt beside it.

model/backbone/      config.json, model.safetensors and the tokenizer: `AutoModel.from_pretrained` reads it, and
                     `AutoModelForCausalLM.from_pretrained` where the task writes texts. A run with an adapter has it only
                     where the backbone began with random weights, and then as it was without the adapter
model/adapter/       what the adapter learnt; of one by peft, what `PeftModel.from_pretrained` reads
model/heads.safetensors
model/tasks.json     for each task what its `fit` learnt
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_model
from torch import Tensor, nn

from vertebra.engine.backbone import Backbone
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
        adapter = model.backbone.adapter
        if adapter is None or model.backbone.info.init == "random":
            save_backbone(model, folder / "backbone", adapter.base_weights() if adapter else None)
        if adapter is not None and adapter.tensors():
            adapter.save(folder / "adapter")

    shutil.rmtree(run.model, ignore_errors=True)  # of a run that was stopped right here
    write_folder(run.model, fill)


def save_backbone(model: TaskModel, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write backbone and tokenizer so that plain transformers loads them; `weights` where the model holds more."""
    backbone = model.backbone
    whole = backbone.language_model or backbone.model
    # The attention of packed batches is no setting of the model: others load it with their own.
    own = backbone.model.config._attn_implementation
    backbone.model.config._attn_implementation = None
    try:
        with quiet_bars():
            whole.save_pretrained(folder, state_dict=weights)
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
        own, found = own_heads(model), load_file(str(file))
        if len(own) < len(known := {name.partition(".")[0] for name in found}) and set(own) <= known:
            # The file is that of a run of several tasks, of which one is loaded.
            found = {name: tensor for name, tensor in found.items() if name.partition(".")[0] in own}
        own.load_state_dict(found)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunError(f"Cannot read the heads in '{file}': {str(error).splitlines()[0]}") from error


def load_adapter(run: RunFolder, backbone: Backbone) -> None:
    """Put what the adapter learnt into an adapted backbone.

    `RunError` where the files are damaged, or the backbone is another one than the run began with.
    """
    if backbone.adapter is None:
        return
    about = run.read_state().get("adapter")
    expected = about.get("base") if isinstance(about, dict) else None
    saved_with_it = (run.model / "backbone").is_dir()
    if not saved_with_it and expected != backbone.adapter.base_fingerprint:
        raise RunError(
            f"The adapter in '{run.path}' was trained on another backbone than '{backbone.info.name}' is now: its weights or "
            "its vocabulary have changed. Give it the one that it was trained on."
        )
    if backbone.adapter.tensors():
        backbone.adapter.load(run.model / "adapter")
