"""The configuration of a run as plain values, for `config.yaml` in its folder, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vertebra.config.defaults import GROUPS, plain
from vertebra.config.resolve import read_adapter, read_task
from vertebra.config.schema import DataConfig, RunConfig, TaskChoice
from vertebra.config.validate import read, read_field, unknown_keys
from vertebra.errors import ConfigError
from vertebra.host.manager import Host

OF_CHOICE = ("weight", "share", "rate", "head_from")
"""What a run says of one of its tasks besides the task's own settings and its data."""


def to_document(config: RunConfig) -> dict[str, Any]:
    """Return the run's configuration as mappings, lists, texts and numbers; `from_document` gives it back unchanged."""
    document: dict[str, Any] = plain(config)
    return document


def from_document(document: Mapping[str, Any], host: Host) -> RunConfig:
    """Return the configuration that `to_document` wrote.

    Keys, types and values are checked, and so are the tasks; paths are not, for a run can be read where its data is
    no more. `ConfigError` lists all that is wrong.
    """
    errors = unknown_keys("", document, ["tasks", *GROUPS, "seed"])
    choices = document.get("tasks")
    if not isinstance(choices, list) or not all(isinstance(values, Mapping) for values in choices):
        raise ConfigError("tasks must be a list of tasks, each with name, config and data.")
    tasks = tuple(_read_task(values, host, errors) for values in choices)
    shared = {group: owner for group, owner in GROUPS.items() if group not in ("data", "adapter")}
    parts: dict[str, Any] = {
        group: read(owner, document.get(group, {}), group, errors) for group, owner in shared.items()
    }
    parts["adapter"] = read_adapter(document.get("adapter", {}), host, errors)
    seed = read_field(RunConfig, "seed", document.get("seed", RunConfig.seed), errors)
    if errors:
        raise ConfigError("\n".join(errors))
    return RunConfig(tasks=tasks, seed=seed, **parts)


def _read_task(values: Mapping[str, Any], host: Host, errors: list[str]) -> TaskChoice:
    errors += unknown_keys("tasks", values, ["name", "config", "data", *OF_CHOICE])
    settings = values.get("config") or {}
    if not isinstance(settings, Mapping):
        errors.append(f"tasks.config={settings}: must be a mapping.")
        settings = {}
    choice = {**settings, "name": values.get("name")}
    name, config = read_task(choice, host, errors)
    data = read(DataConfig, values.get("data", {}), "data", errors)
    own = {key: read_field(TaskChoice, key, values.get(key, getattr(TaskChoice, key)), errors) for key in OF_CHOICE}
    return TaskChoice(name, config, data or DataConfig(), **own)
