"""What is known of each plugin that was found: where it comes from, whether it was taken in, what it brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

DISABLE = "VERTEBRA_DISABLE"
"""The environment variable that blocks plugins, by their names with commas between them."""


@dataclass(frozen=True)
class PluginRecord:
    """One installed plugin, whatever became of it."""

    name: str
    """The name of its entry point."""
    source: str
    """The distribution that brought it, or `core`."""
    version: str
    state: Literal["active", "failed", "blocked"] = "active"
    error: str | None = None
    """Why it failed, in one line."""
    registers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The names it brings, by kind."""
    cause: BaseException | None = field(default=None, repr=False, compare=False)
    """The exception behind `error`, for those who want its traceback."""

    @property
    def label(self) -> str:
        """How messages call it: its name and where it comes from."""
        return f"plugin '{self.name}' ({self.source} {self.version})"

    @property
    def absence(self) -> str:
        """Say why what it brings is not there."""
        if self.state == "blocked":
            return f"{self.label} is blocked by {DISABLE}"
        return f"{self.label} failed: {self.error}"
