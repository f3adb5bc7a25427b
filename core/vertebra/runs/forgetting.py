"""What a task loses when its backbone goes on to learn another one."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from vertebra.config.document import from_document
from vertebra.config.schema import BackboneConfig
from vertebra.engine.evaluate import evaluate
from vertebra.engine.loading import load_backbone
from vertebra.engine.model import TaskModel
from vertebra.errors import RunError
from vertebra.host.manager import Host
from vertebra.runs.compare import MetricChange, change
from vertebra.runs.folder import RunFolder
from vertebra.runs.load import LoadedRun, load, saved_attention
from vertebra.runs.saved import expected_base, load_heads, refuse_damaged_model
from vertebra.runs.tasks import load_metrics, load_task

logger = logging.getLogger(__name__)


def forgetting(
    before: Path | str, after: Path | str, host: Host, *, split: str = "test", device: str = "auto"
) -> list[MetricChange]:
    """Score a run's task, with its own head, on its own backbone and on what a later run made of it; return the changes.

    Both are of the same rows, so intervals and tests are paired. `RunError` where the backbones have not the same vocabulary
    and width, where one of the runs trained an adapter or its head alone, which leaves the backbone as it was, and where the
    data are not those that the run was trained on. A later run that did not begin with the very backbone is warned of.
    """
    run, later = load(before, device=device, host=host), RunFolder.open(after)
    again = on_backbone_of(later, run, host)
    metrics = load_metrics(run.task, host, run.config.trainer.more_metrics)
    splits, encoded = run.read(run.config.tasks[0].data, host)
    if splits.fingerprint != run.folder.read_json("data.json").get("fingerprint"):
        raise RunError(
            f"The data of '{run.folder.path}' have changed since it was trained, so that rows which it learnt from may be in "
            f"{split} now. Put them back as they were."
        )
    if split not in splits.rows:
        raise RunError(f"The data of '{run.folder.path}' has no split {split}; it has {', '.join(splits.rows)}.")
    evaluations = [
        evaluate(one.model, run.task, split, splits.rows[split], encoded(split).features, metrics, run.devices)
        for one in (run, again)
    ]
    return [change(metric, *(one.counts[metric.name] for one in evaluations)) for metric in metrics]


def on_backbone_of(later: RunFolder, run: LoadedRun, host: Host) -> LoadedRun:
    """Return a run with its own head on the backbone of another one; `RunError` where they do not fit."""
    for one in (run.folder, later):
        if expected_base(one) is not None or not (one.model / "backbone").is_dir():
            raise RunError(
                f"'{one.path}' trained an adapter, or nothing of the backbone, which has not changed by that."
            )
    refuse_damaged_model(later)
    base = replace(_beginning_with(later, run.config.backbone), attention=saved_attention(run.folder))
    backbone = load_backbone(base, host, language_model=run.task.needs_language_model, prefer=run.task.attention)
    own = run.model.backbone
    if backbone.width != own.width or backbone.tokenizer.get_vocab() != own.tokenizer.get_vocab():
        raise RunError(
            f"The backbone of '{later.path}' is not a later state of that of '{run.folder.path}': width or vocabulary differ. "
            f"Begin the later run with backbone=hf backbone.path='{run.folder.model / 'backbone'}'."
        )
    if not _went_on(later, run, host):
        logger.warning(
            "'%s' did not begin with the backbone that '%s' left: what was learnt between them counts as well.",
            later.path,
            run.folder.path,
        )
    model = TaskModel(backbone, {run.task.name: run.task.build_head_on(backbone)})
    load_heads(run.folder, model)
    return replace(run, model=model.to(run.devices.accelerator.device).eval())


def _beginning_with(run: RunFolder, config: BackboneConfig) -> BackboneConfig:
    """Return the settings of a backbone, with the one that a run left in place of its own."""
    place = str(run.model / "backbone")
    config = replace(config, name="hf", path=place, revision=None, init="pretrained")
    return replace(config, config={}, gradient_checkpointing=False)


def _went_on(later: RunFolder, run: LoadedRun, host: Host) -> bool:
    """Whether a run is the other one, or began with the backbone that it left."""
    about = later.read_state()["backbone"]
    began = about["fingerprint"]
    if later.model.resolve() == run.folder.model.resolve() or began == run.model.backbone.info.fingerprint:
        return True
    if about["init"] == "random":
        return False
    # One that writes texts, or is of another type, was known by the same weights in another form.
    config = from_document(later.read_config(), host)
    writes = any(load_task(choice, host).needs_language_model for choice in config.tasks)
    begun = replace(_beginning_with(run.folder, config.backbone), config=config.backbone.config)
    return bool(load_backbone(begun, host, language_model=writes).info.fingerprint == began)
