"""The defaults of every configuration group, read from the dataclasses that own them, as plain values."""

from __future__ import annotations

import json
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from os import PathLike, fspath
from typing import Any

from vertebra.config.schema import AdapterConfig, BackboneConfig, DataConfig, GPUConfig, RunConfig, TrainerConfig
from vertebra.errors import ConfigError
from vertebra.host.refs import Ref

GROUPS: dict[str, type] = {
    "data": DataConfig,
    "backbone": BackboneConfig,
    "adapter": AdapterConfig,
    "gpu": GPUConfig,
    "trainer": TrainerConfig,
}
"""The core's groups and the dataclass that owns each; `task` is owned by the task that is chosen."""

REQUIRED = "???"
"""Stands where a value must be given (Hydra's own mark)."""


def plain(value: Any) -> Any:
    """Return dataclasses, tuples and paths inside `value` as the mappings, lists and texts that JSON and YAML hold."""
    return json.loads(json.dumps(value, default=_plain_one))


def core_defaults() -> dict[str, Any]:
    """Return every setting that does not belong to a task, with its default."""
    return {**{group: defaults_of(owner) for group, owner in GROUPS.items()}, "seed": RunConfig.seed}


def task_defaults(ref: Ref) -> dict[str, Any]:
    """Return a task's name and settings, with their defaults."""
    owner = ref.load_config()
    return {"name": ref.name, **(defaults_of(owner) if owner else {})}


def defaults_of(owner: type) -> dict[str, Any]:
    """Return the fields of a dataclass with their defaults; `REQUIRED` for those that have none."""
    return {field.name: plain(_default(field)) for field in fields(owner) if field.init}


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return REQUIRED if field.default is MISSING else field.default


def _plain_one(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, PathLike):
        return fspath(value)
    raise ConfigError(f"{value!r} cannot stand in a configuration: it takes texts, numbers, lists and mappings.")
