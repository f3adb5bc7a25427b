"""Keys of what is kept on disk: hashes of everything that it was made from, the code included."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import __version__

if TYPE_CHECKING:
    from vertebra.tasks.task import Task


def task_parts(task: Task) -> dict[str, Any]:
    """Return what a task's part in a result depends on, but for its code: class, settings, what it learnt, version."""
    config: Any = task.config
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    return {
        "task": f"{task.name} {name_of(type(task))}",
        "config": config,
        "state": task.state(),
        "vertebra": __version__,
    }


def name_of(owner: type) -> str:
    """Return the full name of a class."""
    return f"{owner.__module__}.{owner.__qualname__}"


def code_fingerprint(*owners: type) -> str:
    """Return a hash of the code of the packages of some classes and of their bases.

    A class without source files (typed at a prompt) gives a new one each time.
    """
    modules = {base.__module__ for owner in owners for base in owner.__mro__}
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted({path for name in modules for path in _sources(name)}):
        digest.update(path.read_bytes())
    if not all(_has_source(owner) for owner in owners):
        digest.update(uuid.uuid4().bytes)
    return digest.hexdigest()


def hashed(document: Any) -> str:
    """Return the hash of plain data; what JSON cannot hold counts as its `repr`."""
    text = json.dumps(document, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _sources(module_name: str) -> list[Path]:
    """Return the source files that a module may call: those of its package, where it is in one."""
    module = sys.modules.get(module_name)
    file = getattr(module, "__file__", None)
    if file is None or module_name in sys.stdlib_module_names:
        return []
    path = Path(file)
    return sorted(path.parent.glob("*.py")) if getattr(module, "__package__", "") else [path]


def _has_source(owner: type) -> bool:
    find: Callable[[Any], object] = inspect.getsource
    try:
        find(owner)
    except (OSError, TypeError):
        return False
    return True
