"""Keys of runs: equal keys mean that the same numbers would come out."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from vertebra.config.document import to_document
from vertebra.config.schema import RunConfig
from vertebra.host.manager import Host

WITHOUT_EFFECT = (
    ("trainer", "baselines"),
    ("trainer", "trackers"),
    ("trainer", "log_every"),
    ("trainer", "keep_checkpoints"),
    ("trainer", "checkpoint_every"),
)
"""Settings that cannot change a result."""
OF_SEVERAL = ("sampling", "sampling_temperature", "weighting", "adapters")
"""Settings of the trainer that matter to a run of several tasks alone."""


def run_key(config: RunConfig, fingerprints: list[str], backbone_fingerprint: str, plugins: dict[str, str]) -> str:
    """Return the hash of what decides a run's result: settings, data, backbone, and the active plugins with versions.

    What is at a path counts, by its fingerprint, and not where it is; `fingerprints` are those of the data, and of what the
    run takes from earlier ones.
    """
    document = _deciding(config)
    document["backbone"].pop("path")
    document["trainer"].pop("ewc_from")  # it left the backbone, whose fingerprint counts
    for task in document["tasks"]:
        task["data"].pop("path")  # the same data elsewhere is the same data
        task.pop("head_from")
    return _hash([document, fingerprints, backbone_fingerprint, sorted(plugins.items())])


def job_key(config: RunConfig, plugins: dict[str, str]) -> str:
    """Return the hash of what is known of a run before anything is loaded: its settings and the active plugins.

    Paths count as absolute ones, what is there does not: `run_key` tells when that has changed.
    """
    return _hash([_deciding(anchored(config)), sorted(plugins.items())])


def job_name(config: RunConfig, plugins: dict[str, str]) -> str:
    """Return the name of a job's folder: what a person looks for, and the start of the job's key.

    It is a function of the job alone and not of the sweep that it is in, so that another sweep finds it.
    """
    backbone = config.backbone.name if config.backbone.path is None else Path(config.backbone.path).name
    adapter = [config.adapter.name] if config.adapter != type(config.adapter)() else []
    words = ["-".join(task.name for task in config.tasks), backbone, *adapter, f"seed{config.seed}"]
    readable = [re.sub(r"[^\w.]+", "-", word).strip("-.")[:40] for word in words]
    return "-".join([*readable, job_key(config, plugins)[:12]])


def anchored(config: RunConfig) -> RunConfig:
    """Return the configuration with absolute paths, so that the run can be resumed from anywhere."""

    def absolute(path: str | None) -> str | None:
        return str(Path(path).absolute()) if path is not None and Path(path).exists() else path

    backbone = replace(config.backbone, path=absolute(config.backbone.path))
    trainer = replace(config.trainer, ewc_from=absolute(config.trainer.ewc_from))
    tasks = tuple(
        replace(one, data=replace(one.data, path=absolute(one.data.path)), head_from=absolute(one.head_from))
        for one in config.tasks
    )
    return replace(config, backbone=backbone, trainer=trainer, tasks=tasks)


def active_plugins(host: Host) -> dict[str, str]:
    """Return the names and versions of the active plugins."""
    return {plugin.name: plugin.version for plugin in host.plugins if plugin.state == "active"}


def _deciding(config: RunConfig) -> dict[str, Any]:
    """Return the configuration without what cannot change a result."""
    document = to_document(config)
    for group, name in WITHOUT_EFFECT:
        document[group].pop(name)
    for task in document["tasks"]:
        task["data"].pop("cache")
    if len(document["tasks"]) == 1:
        for name in ("weight", "share", "rate"):
            document["tasks"][0].pop(name)
        for name in OF_SEVERAL:
            document["trainer"].pop(name)
    return document


def _hash(parts: list[Any]) -> str:
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
