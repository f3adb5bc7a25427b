"""Keys of what is kept on disk: hashes of everything that it was made from, the code included."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import sys
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra import __version__

if TYPE_CHECKING:
    from vertebra.tasks.task import Task

CORE = Path(__file__).parents[1]
ENCODING = (CORE / "data", CORE / "tasks")
"""What encoding may call of the core, whatever the task."""


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
    """Return a hash of the code that some classes and their bases may call: their packages whole, and the core's encoding.

    A class without source files (typed at a prompt) gives a new one each time.
    """
    modules = {base.__module__ for owner in owners for base in owner.__mro__}
    files = {path for folder in ENCODING for path in folder.rglob("*.py")}.union(*map(_sources, modules))
    digest = hashlib.blake2b(digest_size=16)
    contents = [path.read_bytes() for path in files if path.is_file()]  # an editor's lock may be a link to nothing
    for one in sorted(hashlib.blake2b(content).digest() for content in contents):  # wherever the files are installed
        digest.update(one)
    if not all(_has_source(owner) for owner in owners):
        digest.update(uuid.uuid4().bytes)
    return digest.hexdigest()


def hashed(document: Any) -> str:
    """Return the hash of plain data; what JSON cannot hold counts as its `repr`."""
    text = json.dumps(document, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _sources(module_name: str) -> Iterable[Path]:
    """Return the source files that a module may call: all of the package that it is shipped in, where it is in one.

    Of the core, which is too large for that, it is the part that the module is in.
    """
    module = sys.modules.get(module_name)
    file = getattr(module, "__file__", None)
    if file is None or module_name in sys.stdlib_module_names:
        return []
    parts = (getattr(module, "__package__", "") or "").split(".")
    outer = [".".join(parts[:length]) for length in range(1 if parts[0] != CORE.name else 2, len(parts) + 1)]
    for package in outer:  # a namespace that several distributions share has no file of its own
        if found := getattr(sys.modules.get(package), "__file__", None):
            return Path(found).parent.rglob("*.py")
    return [Path(file)]


def _has_source(owner: type) -> bool:
    find: Callable[[Any], object] = inspect.getsource
    try:
        find(owner)
    except (OSError, TypeError):
        return False
    return True
