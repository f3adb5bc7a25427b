"""`vertebra export`: the backbone of a trained run as a folder that plain transformers loads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.cli.parser import Parser
from vertebra.errors import RunError

if TYPE_CHECKING:
    from vertebra.engine.directions import Attention
    from vertebra.engine.model import TaskModel
    from vertebra.runs.folder import RunFolder


def main(argv: Sequence[str]) -> int:
    """Run `vertebra export` with these arguments."""
    parser = Parser(
        "vertebra export",
        description="Write the trained backbone and its tokenizer to a folder that AutoModel.from_pretrained loads, "
        "with what an adapter learnt as part of its weights; the task's head (heads.safetensors) and labels (tasks.json) go "
        "beside them.",
    )
    parser.add_argument("run", metavar="RUN_DIR", help="the folder of the run")
    parser.add_argument("output", metavar="FOLDER", type=Path, help="a new folder")
    arguments = parser.parse_args(list(argv))

    from vertebra.config.document import from_document
    from vertebra.host.manager import create_host
    from vertebra.runs.folder import RunFolder
    from vertebra.runs.load import saved_attention
    from vertebra.runs.saved import refuse_damaged_model
    from vertebra.runs.tasks import load_task

    run = RunFolder.open(arguments.run)
    attention = saved_attention(run)
    host = create_host()
    tasks = from_document(run.read_config(), host).tasks
    writes = any(load_task(choice, host).needs_language_model for choice in tasks)
    output: Path = arguments.output
    if output.exists():
        raise RunError(f"'{output}' exists already; choose a new folder.")
    refuse_damaged_model(run)
    plain = (run.model / "backbone").is_dir() and not (run.model / "adapter").is_dir()
    write(output, run, None if plain else merged(arguments.run), [choice.name for choice in tasks])
    kind = "AutoModelForCausalLM" if writes else "AutoModel"
    print(f"Exported to {output}. In Python: {kind}.from_pretrained({str(output)!r})")
    if hint := hint_of(attention):
        print(hint)
    return 0


def merged(run: str) -> TaskModel:
    """Return the model of a run with an adapter, what the adapter learnt made part of the backbone's weights."""
    from vertebra.runs.load import load
    from vertebra.runs.saved import adapter_folder

    loaded = load(run, device="cpu")
    adapter = loaded.model.backbone.adapter
    if adapter is not None and not adapter.merges:
        raise RunError(
            f"What adapter={loaded.config.adapter.name} learnt cannot become part of the backbone's weights. It stands in "
            f"'{adapter_folder(loaded.folder, loaded.task.name)}', beside the backbone."
        )
    if adapter is not None:
        adapter.merge()
    return loaded.model


def write(output: Path, run: RunFolder, model: TaskModel | None, tasks: Sequence[str]) -> None:
    """Write the backbone of a model, or the one that the run has, with heads and labels; the whole folder or nothing."""
    from safetensors import SafetensorError

    from vertebra.engine.checkpoints import short_reason
    from vertebra.runs.saved import copy_learnt, save_backbone

    aside = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        if model is None:
            shutil.copytree(run.model / "backbone", aside)
        else:
            save_backbone(model, aside)
        copy_learnt(run, tasks, aside)
        aside.rename(output)
    except (OSError, SafetensorError, RuntimeError) as error:  # the writers of weights raise the latter on a full disk
        raise RunError(f"Cannot write '{output}': {short_reason(error)}.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def hint_of(attention: Attention) -> str | None:
    """Return how a model is called that does not attend as transformers does by itself, or that it cannot attend so."""
    layers = set(attention) if isinstance(attention, tuple) else {attention}
    if layers <= {"causal", 0.0}:
        return None
    if layers <= {"bidirectional", 1.0}:
        return "It was trained to attend in both directions: call it as model(..., is_causal=False)."
    said = ", ".join(attention) if isinstance(attention, tuple) else attention
    return (
        f"It was trained to attend in both directions in some of its layers (attention {said}). Transformers attends alike in "
        "all of them, so that its numbers are others; those of the run come from vertebra.load."
    )
