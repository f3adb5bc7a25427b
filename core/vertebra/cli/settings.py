"""`--set task.beams=4`: settings of a trained run's task that are given other values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vertebra.errors import ConfigError

OF_SET = "another value for a setting of the task that nothing was learnt by, such as task.temperature=0.8 of one that writes"
"""What `--set` says of itself."""
PREFIX = "task."


def read_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Return the settings that texts such as `task.beams=4` give, by names such as `beams`."""
    from vertebra.config.members import read_value

    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.removeprefix(PREFIX):
            raise ConfigError(f"--set {text}: must be a setting of the task and its value, as in --set task.beams=4.")
        settings[name.removeprefix(PREFIX)] = read_value(value)
    return settings
