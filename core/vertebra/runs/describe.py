"""What a run is made of, before it starts: what a reader of its results must know, and what its files say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch

from vertebra.config.schema import RunConfig, TrainerConfig
from vertebra.engine.adapters.adapter import output_fingerprint
from vertebra.engine.attention_varlen import why_not
from vertebra.engine.backbone import Backbone
from vertebra.engine.counting import ParameterCounts
from vertebra.engine.devices import Devices
from vertebra.engine.plan import draws_of
from vertebra.host.manager import Host
from vertebra.runs.folder import RunFolder
from vertebra.runs.key import active_plugins
from vertebra.runs.prepare import Prepared
from vertebra.runs.task_folders import write_data, write_data_together
from vertebra.tasks.corpus_task import CorpusTask


def attention_notes(backbone: Backbone, devices: Devices) -> tuple[str, ...]:
    """Return why a GPU does not attend over the whole stream in one call, where it does not."""
    if backbone.info.packing == "padded" or devices.accelerator.device.type != "cuda":
        return ()
    dtype = torch.bfloat16 if devices.config.precision == "bf16" else backbone.model.dtype
    reason = why_not(backbone.model.config, dtype)
    return (reason,) if reason else ()


def joined_notes(
    of_backbone: Sequence[str],
    own: Mapping[str, Sequence[str]],
    of_devices: Sequence[str],
    failed: Mapping[str, Sequence[str]],
) -> tuple[str, ...]:
    """Return the notes of a run; where it has several tasks, those of one task with its name before them."""
    several = len(own) > 1

    def named(notes: Mapping[str, Sequence[str]]) -> list[str]:
        return [f"{task}: {note}" if several else note for task, some in notes.items() for note in some]

    return (*of_backbone, *named(own), *of_devices, *named(failed))


def rows_by_split(parts: Sequence[Prepared]) -> dict[str, int]:
    """Return how many rows each split has, over all tasks."""
    counts: dict[str, int] = {}
    for part in parts:
        for split, rows in part.splits.rows.items():
            counts[split] = counts.get(split, 0) + len(rows)
    return counts


def rows_of_epoch(parts: Sequence[Prepared]) -> int | None:
    """Return how many rows an epoch goes over, without those of tasks that have a share of it.

    None for running text, where each token is a target and few rows are much to learn from.
    """
    if any(isinstance(part.task, CorpusTask) for part in parts):
        return None
    return sum(len(part.splits.rows["train"]) for part in parts if part.choice.share is None)


def rows_of_step(parts: Sequence[Prepared], config: TrainerConfig) -> list[float]:
    """Return how many rows of each task a step has, on average."""
    sizes = [len(part.splits.rows["train"]) for part in parts]
    shares = [part.choice.share for part in parts]
    draws = draws_of(sizes, config.sampling, config.sampling_temperature, shares) if len(parts) > 1 else ()
    quotas = [draw.quota for draw in draws] or sizes
    return [config.batch_size * quota / sum(quotas) for quota in quotas]


def adapters_of(config: RunConfig) -> int:
    """Return how many adapters a run has: one, or one for each of its tasks."""
    return len(config.tasks) if config.trainer.adapters == "each" else 1


def describe(
    run: RunFolder,
    places: Mapping[str, RunFolder],
    key: str,
    config: RunConfig,
    parts: Sequence[Prepared],
    backbone: Backbone,
    counts: ParameterCounts,
    notes: Sequence[str],
    host: Host,
) -> None:
    """Write what the run is made of, before it starts."""
    about = asdict(backbone.info)
    about.pop("notes"), about.pop("context")
    run.update_state(
        key=key,
        tasks=list(places),
        backbone=about,
        adapter={
            "name": config.adapter.name,
            **asdict(counts),
            "share": counts.share,
            "base": backbone.adapter.base_fingerprint if backbone.adapter else None,
            "output": untrained_output(backbone),
            "adapters": adapters_of(config),
        },
        notes=list(notes),
        plugins=active_plugins(host),
    )
    data = {part.task.name: write_data(places[part.task.name], part) for part in parts}
    if len(parts) > 1:
        write_data_together(run, data)


def untrained_output(backbone: Backbone) -> str | None:
    """Return a hash of the output layer of the language model that an adapter was trained before; None where it trains it."""
    if backbone.adapter is None or backbone.language_model is None:
        return None
    output = backbone.language_model.get_output_embeddings()
    return None if any(one.requires_grad for one in output.parameters()) else output_fingerprint(backbone)
