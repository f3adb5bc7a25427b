"""The key of a run: equal keys mean that the same numbers would come out."""

from __future__ import annotations

import hashlib
import json

from vertebra.config.document import to_document
from vertebra.config.schema import RunConfig
from vertebra.host.manager import Host

WITHOUT_EFFECT = (
    ("trainer", "baselines"),
    ("trainer", "trackers"),
    ("trainer", "log_every"),
    ("trainer", "keep_checkpoints"),
    ("trainer", "checkpoint_every"),
    ("backbone", "path"),
)
"""Settings that cannot change a result; what is at a path counts, by its fingerprint, and not where it is."""


def run_key(config: RunConfig, data_fingerprints: list[str], backbone_fingerprint: str, plugins: dict[str, str]) -> str:
    """Return the hash of what decides a run's result: settings, data, backbone, and the active plugins with versions."""
    document = to_document(config)
    for group, name in WITHOUT_EFFECT:
        document[group].pop(name)
    for task in document["tasks"]:
        task["data"].pop("cache")
        task["data"].pop("path")  # the same data elsewhere is the same data
    parts = [document, data_fingerprints, backbone_fingerprint, sorted(plugins.items())]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def active_plugins(host: Host) -> dict[str, str]:
    """Return the names and versions of the active plugins."""
    return {plugin.name: plugin.version for plugin in host.plugins if plugin.state == "active"}
