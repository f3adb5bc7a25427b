"""A head that an earlier run trained: whether a task may begin with it, said when a run is composed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vertebra.config.defaults import plain
from vertebra.config.document import from_document
from vertebra.config.schema import TaskChoice
from vertebra.errors import VertebraError
from vertebra.host.manager import Host


def wrong_head(choice: TaskChoice, host: Host) -> Iterator[str]:
    """Yield what stands against the run that `head_from` names: it has not the task, or had it with other settings."""
    if choice.head_from is None:
        return
    from vertebra.runs.bundle_folder import open_trained

    try:
        tasks = from_document(open_trained(choice.head_from, choice.name).read_config(), host).tasks
    except VertebraError as error:
        yield f"{choice.name}.head_from={choice.head_from}: {error}"
        return
    now: dict[str, Any] = plain(choice.config) or {}
    then: dict[str, Any] = next((plain(one.config) or {} for one in tasks if one.name == choice.name), {})
    if different := [name for name, value in now.items() if then.get(name) != value]:
        settings = " ".join(f"{choice.name}.task.{name}={then.get(name)}" for name in different)
        yield f"{choice.name}.head_from={choice.head_from}: that head was trained with other settings. Set {settings}."
