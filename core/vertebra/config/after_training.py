"""Settings of a task that may be changed when a trained run is loaded, such as how its texts are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from vertebra.config.defaults import plain
from vertebra.config.schema import RunConfig
from vertebra.config.validate import read, unknown_keys
from vertebra.errors import ConfigError


def with_settings(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a trained run of one task with other settings of that task.

    `ConfigError` lists all that is wrong: a setting that does not exist, one that was settled in training, a value that it
    cannot have.
    """
    (choice,) = config.tasks
    free = sorted(getattr(choice.config, "after_training", ()))
    known = [field.name for field in fields(choice.config)] if choice.config is not None else []
    errors = unknown_keys("task", settings, known)
    errors += [
        f"task.{name}: was settled in training. What can be changed after it: {', '.join(free) or 'nothing'}."
        for name in settings
        if name in known and name not in free
    ]
    values = {**plain(choice.config), **settings} if choice.config is not None else {}
    changed = None if errors else read(type(choice.config), values, "task", errors)
    if errors:
        raise ConfigError("\n".join(errors))
    return replace(config, tasks=(replace(choice, config=changed),))
