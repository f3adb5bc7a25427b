"""`vertebra export`: the backbone of a trained run as a folder that plain transformers loads."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from vertebra.cli.parser import Parser
from vertebra.errors import RunError


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
    from vertebra.engine.checkpoints import is_whole
    from vertebra.host.manager import create_host
    from vertebra.runs.folder import RunFolder
    from vertebra.runs.load import saved_attention
    from vertebra.runs.tasks import load_task

    run = RunFolder.open(arguments.run)
    attention = saved_attention(run)
    host = create_host()
    writes = load_task(from_document(run.read_config(), host).tasks[0], host).needs_language_model
    output: Path = arguments.output
    if output.exists():
        raise RunError(f"'{output}' exists already; choose a new folder.")
    if not is_whole(run.model):
        raise RunError(f"The model in '{run.model}' is damaged: its files do not fit their hashes in manifest.json.")
    try:
        if (run.model / "adapter").is_dir() or not (run.model / "backbone").is_dir():
            merge_into(output, arguments.run)
        else:
            shutil.copytree(run.model / "backbone", output)
        for name in ("heads.safetensors", "tasks.json"):
            shutil.copy2(run.model / name, output / name)
    except OSError as error:
        shutil.rmtree(output, ignore_errors=True)
        raise RunError(f"Cannot write '{output}': {error.strerror or error}.") from error
    kind = "AutoModelForCausalLM" if writes else "AutoModel"
    print(f"Exported to {output}. In Python: {kind}.from_pretrained({str(output)!r})")
    if attention == "bidirectional":
        print("It was trained to attend in both directions: call it as model(..., is_causal=False).")
    return 0


def merge_into(output: Path, run: str) -> None:
    """Write the backbone of a run with an adapter, what the adapter learnt made part of its weights."""
    from vertebra.runs.load import load
    from vertebra.runs.saved import save_backbone

    loaded = load(run, device="cpu")
    model, adapter = loaded.model, loaded.model.backbone.adapter
    if adapter is not None and not adapter.merges:
        raise RunError(
            f"What adapter={loaded.config.adapter.name} learnt cannot become part of the backbone's weights. It stands in "
            f"'{Path(run) / 'model' / 'adapter'}', beside the backbone."
        )
    if adapter is not None:
        adapter.merge()
    save_backbone(model, output)
