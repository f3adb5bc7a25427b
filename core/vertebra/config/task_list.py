"""The list of a run's tasks on the command line: `tasks=[ner,sentiment]`. Nothing is imported to read it."""

from __future__ import annotations

from collections.abc import Sequence

TASKS = "tasks="


def names_tasks(overrides: Sequence[str]) -> bool:
    """Whether a command line names its tasks by `tasks=[…]`."""
    return any(override.startswith(TASKS) for override in overrides)


def names_in(override: str) -> list[str]:
    """Return the names in `tasks=[ner,sentiment]`."""
    listed = override.removeprefix(TASKS).strip().removeprefix("[").removesuffix("]")
    return [name.strip().strip("'\"") for name in listed.split(",") if name.strip()]
