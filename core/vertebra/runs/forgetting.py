"""What a task loses when its backbone goes on to learn another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vertebra.config.schema import BackboneConfig
from vertebra.engine.evaluate import evaluate
from vertebra.engine.loading import load_backbone
from vertebra.engine.model import TaskModel
from vertebra.errors import RunError
from vertebra.host.manager import Host
from vertebra.runs.compare import MetricChange, change
from vertebra.runs.folder import RunFolder
from vertebra.runs.load import LoadedRun, load, saved_attention
from vertebra.runs.saved import load_heads
from vertebra.runs.tasks import load_metrics


def forgetting(
    before: Path | str, after: Path | str, host: Host, *, split: str = "test", device: str = "auto"
) -> list[MetricChange]:
    """Score a run's task, with its own head, on its own backbone and on what a later run made of it; return the changes.

    Both are of the same rows, so intervals and tests are paired. `RunError` where the backbones have not the same vocabulary
    and width, or where one of the runs trained an adapter, which leaves the backbone as it was.
    """
    run, later = load(before, device=device, host=host), RunFolder.open(after)
    again = on_backbone_of(later, run, host)
    metrics = load_metrics(run.task, host, run.config.trainer.more_metrics)
    splits, features_of = run.read(run.config.tasks[0].data, host)
    if split not in splits.rows:
        raise RunError(f"The data of '{run.folder.path}' has no split {split}; it has {', '.join(splits.rows)}.")
    evaluations = [
        evaluate(one.model, run.task, split, splits.rows[split], features_of(split), metrics, run.devices)
        for one in (run, again)
    ]
    return [change(metric, *(one.counts[metric.name] for one in evaluations)) for metric in metrics]


def on_backbone_of(later: RunFolder, run: LoadedRun, host: Host) -> LoadedRun:
    """Return a run with its own head on the backbone of another one; `RunError` where they do not fit."""
    folder = later.model / "backbone"
    for one in (run.folder, later):
        if (one.model / "adapter").is_dir() or not (one.model / "backbone").is_dir():
            raise RunError(
                f"'{one.path}' trained an adapter, or nothing of the backbone, which has not changed by that."
            )
    config = BackboneConfig(name="hf", path=str(folder), init="pretrained", attention=saved_attention(run.folder))
    backbone = load_backbone(config, host, language_model=run.task.needs_language_model, prefer=run.task.attention)
    own = run.model.backbone
    if backbone.width != own.width or backbone.tokenizer.get_vocab() != own.tokenizer.get_vocab():
        raise RunError(
            f"The backbone of '{later.path}' is not a later state of that of '{run.folder.path}': width or vocabulary differ. "
            f"Begin the later run with backbone=hf backbone.path='{run.folder.model / 'backbone'}'."
        )
    model = TaskModel(backbone, {run.task.name: run.task.build_head_on(backbone)})
    load_heads(run.folder, model)
    return replace(run, model=model.to(run.devices.accelerator.device).eval())
