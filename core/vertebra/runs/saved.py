"""The trained model on disk: a folder that plain transformers loads, with the heads and what the tasks learnt beside it.

model/backbone/      config.json, model.safetensors and the tokenizer: `AutoModel.from_pretrained` reads it, and
                     `AutoModelForCausalLM.from_pretrained` where the task writes texts. A run with an adapter has it only
                     where the backbone began with random weights, and then as it was without the adapter
model/adapter/       what the adapter learnt; of one by peft, what `PeftModel.from_pretrained` reads. Where each task has one
                     of its own, that is a folder in here by the task's name
model/heads.safetensors
model/tasks.json     for each task what its `fit` learnt
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file, save_model
from torch import Tensor, nn

from vertebra.engine.adapters.adapter import output_fingerprint, tokenizer_fingerprint
from vertebra.engine.backbone import Backbone
from vertebra.engine.checkpoints import is_whole, write_folder
from vertebra.engine.directions import Attention
from vertebra.engine.loading import quiet_bars
from vertebra.engine.model import TaskModel
from vertebra.engine.sources import EITHER_WAY, OF_RUN
from vertebra.errors import RunError
from vertebra.runs.folder import RunFolder
from vertebra.tasks.heads import LanguageModelHead
from vertebra.tasks.task import Task


def save_model_folder(run: RunFolder, model: TaskModel, tasks: Mapping[str, Task]) -> None:
    """Write the model of a run, whole or not at all."""

    def fill(folder: Path) -> None:
        save_model(own_heads(model), str(folder / "heads.safetensors"))
        RunFolder(folder).write_json("tasks.json", {name: task.state() for name, task in tasks.items()})
        adapter = model.backbone.adapter
        if adapter is None or model.backbone.info.init == "random":
            save_backbone(model, folder / "backbone", adapter.base_weights() if adapter else None)
            if any(task.teaches_both_ways for task in tasks.values()):
                _note_attention(folder / "backbone" / "config.json", EITHER_WAY)
        if adapter is not None and adapter.tensors():
            adapter.save(folder / "adapter")

    own = run.path / "model"  # whatever folder the run may be a part of: this one is written, and emptied before
    shutil.rmtree(own, ignore_errors=True)  # of a run that was stopped right here
    write_folder(own, fill)


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
    if backbone.info.attention != "causal":
        _note_attention(folder / "config.json", backbone.info.attention)
    backbone.tokenizer.save_pretrained(folder)


def _note_attention(file: Path, attention: Attention | Literal["either"]) -> None:
    """Leave in a saved configuration how the layers look, so that who goes on with the weights reads them so."""
    document = json.loads(file.read_text(encoding="utf-8")) | {OF_RUN: attention}
    file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def own_heads(model: TaskModel) -> nn.ModuleDict:
    """Return the heads whose weights are not saved with the backbone, as a language model's are."""
    own = {name: head for name, head in model.heads.items() if not isinstance(head, LanguageModelHead)}
    return nn.ModuleDict(own)


def copy_learnt(run: RunFolder, tasks: Sequence[str], folder: Path) -> None:
    """Copy heads and labels of these tasks, which are all of a run or one of several, into another folder."""
    names = ("heads.safetensors", "tasks.json")
    learnt = RunFolder(run.model).read_json("tasks.json")
    if not isinstance(learnt, dict) or not learnt.keys() - set(tasks):
        for name in names:
            shutil.copy2(run.model / name, folder / name)
        return
    heads = load_file(str(run.model / names[0]))
    own = {name: tensor for name, tensor in heads.items() if name.partition(".")[0] in tasks}
    save_file(own, str(folder / names[0]))
    RunFolder(folder).write_json(names[1], {name: one for name, one in learnt.items() if name in tasks})


def refuse_damaged_model(run: RunFolder) -> None:
    """Raise `RunError` where the files of a run's model are not those that were written."""
    if not is_whole(run.model):
        raise RunError(f"The model in '{run.model}' is damaged: its files do not fit their hashes in manifest.json.")


def load_heads(run: RunFolder, model: TaskModel) -> None:
    """Put the saved heads into the model."""
    file = run.model / "heads.safetensors"
    try:
        own, found = own_heads(model), load_file(str(file))
        if len(own) < len(known := {name.partition(".")[0] for name in found}) and set(own) <= known:
            # The file is that of a run of several tasks, of which one is loaded.
            found = {name: tensor for name, tensor in found.items() if name.partition(".")[0] in own}
    except (OSError, SafetensorError) as error:
        raise RunError(f"Cannot read the heads in '{file}': {str(error).splitlines()[0]}") from error
    if misfit := _misfit(own.state_dict(), found):
        raise RunError(
            f"Cannot read the heads in '{file}': {misfit}. They were made by another task, version or setting: train again."
        )
    own.load_state_dict(found)


def _misfit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """Say which weights are not those that are wanted; None where all are."""
    for verb, names in (
        ("miss", wanted.keys() - found.keys()),
        ("have, beyond those of the task,", found.keys() - wanted.keys()),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            return f"they {verb} {min(names)}{more}"
    for name, tensor in wanted.items():
        if tensor.shape != found[name].shape:
            return f"{name} is {_shape(found[name])} there and {_shape(tensor)} here"
    return None


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "one number"


def adapter_folder(run: RunFolder, task: str) -> Path:
    """Return where the adapter of a task is, which may be that of all tasks of the run."""
    shared = run.model / "adapter"
    return own if (own := shared / task).is_dir() else shared


def load_adapter(run: RunFolder, task: str, backbone: Backbone, *, own_backbone: bool) -> None:
    """Put what the task's adapter learnt into an adapted backbone; `own_backbone` where that is the one saved with the run.

    `RunError` where the files are damaged, or the backbone is another one than the run began with.
    """
    if backbone.adapter is None:
        return
    if not own_backbone and expected_base(run) != backbone.adapter.base_fingerprint:
        raise RunError(
            f"The adapter in '{run.path}' was trained on another backbone than '{backbone.info.name}' is now: its weights or "
            "its vocabulary have changed. Give it the one that it was trained on."
        )
    if backbone.adapter.tensors():
        backbone.adapter.load(adapter_folder(run, task))


def expected_base(run: RunFolder) -> str | None:
    """Return the hash of the backbone that a run's adapter was trained on; None for a run without an adapter."""
    about = run.read_state().get("adapter")
    found = about.get("base") if isinstance(about, dict) else None
    return found if isinstance(found, str) else None


def refuse_other_output(run: RunFolder, backbone: Backbone) -> None:
    """Raise `RunError` where the adapter of a task that writes was trained before another output layer than the backbone has.

    Runs of versions that did not keep its hash are taken at their word.
    """
    about = run.read_state().get("adapter")
    expected = about.get("output") if isinstance(about, dict) else None
    if isinstance(expected, str) and expected != output_fingerprint(backbone):
        raise RunError(
            f"The adapter in '{run.path}' was trained on another backbone than '{backbone.info.name}' is now: the output "
            "matrix of its language model has changed. Give it the one that it was trained on."
        )


def refuse_other_backbone(run: RunFolder, backbone: Backbone) -> None:
    """Raise `RunError`, with the reason, where a bundle says that it belongs to another model or another tokenizer.

    Its weights are compared by `load_adapter`.
    """
    about = run.read_state().get("backbone")
    if not isinstance(about, dict) or "shape" not in about:  # a run's folder does not say it
        return
    asked, found = about["shape"], shape_of(backbone)
    if isinstance(asked, dict) and (wrong := [name for name, value in found.items() if asked.get(name) != value]):
        name = wrong[0]
        raise RunError(
            f"The bundle in '{run.path}' was made for another backbone than '{backbone.info.name}': {name} is "
            f"{found[name]}, and {asked.get(name)} where it was trained. Give it the one that it was trained on."
        )
    if about.get("tokenizer") != tokenizer_fingerprint(backbone):
        raise RunError(
            f"The bundle in '{run.path}' was made for another tokenizer than that of '{backbone.info.name}': its vocabulary, "
            "or how it cuts texts, is not the same. Give it the backbone that it was trained on."
        )


def shape_of(backbone: Backbone) -> dict[str, Any]:
    """Return what a model is like, apart from its weights."""
    config = backbone.model.config
    return {
        "family": config.model_type,
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "vocabulary": backbone.model.get_input_embeddings().num_embeddings,
    }
