"""Whether the settings that the code reads are those that the config declares."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields

from vertebra.names import did_you_mean
from vertebra.testing.breaches import Breach, DoesNotApplyError, short
from vertebra.testing.case import Case


def check(case: Case) -> Iterator[Breach]:
    """Compare what follows `self.config.` in the task's class and its bases with the fields of the config."""
    owner = case.ref.load_config()
    known = {field.name for field in fields(owner)} if owner is not None else set()
    read = dict(readings(case))
    if owner is None and not read:
        raise DoesNotApplyError("the task has no settings")
    for name, where in read.items():
        if name not in known and not hasattr(owner, name):
            declared = f"{owner.__name__} has {', '.join(sorted(known))}" if owner else "the TaskRef names no config"
            yield Breach(
                where,
                f"the code reads the setting '{name}', and {declared}.{did_you_mean(name, known)}",
                "a field that the config dataclass lacks, or a config that the TaskRef does not name",
            )
    if owner is None or owner.__module__.partition(".")[0] not in case.packages:
        return  # none, or that of a family, whose code is the core's
    inherited = {name for base in owner.__mro__[1:] for name in vars(base).get("__annotations__", {})}
    own = [name for name in vars(owner).get("__annotations__", {}) if name in known - inherited]
    for name in own:
        if not any(re.search(rf"\.{name}\b|['\"]{name}['\"]", text) for text in texts(case)):
            yield Breach(
                str(case.ref.config),
                f"the setting '{name}' is declared, and no code of {', '.join(case.packages)} reads it",
                "a setting that changes nothing: read it as `self.config." + name + "`, or take it out",
            )


def readings(case: Case) -> Iterator[tuple[str, str]]:
    """Yield each setting that the task's class or a base of it reads, with the place of the first reading."""
    seen: set[str] = set()
    for owner in case.task_class.__mro__:
        if owner.__module__.partition(".")[0] not in case.packages:
            continue
        try:
            lines, first = inspect.getsourcelines(owner)
        except (OSError, TypeError):  # a class that was made without a file
            continue
        for node in ast.walk(ast.parse(textwrap.dedent("".join(lines)))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self.config" and node.attr not in seen:
                seen.add(node.attr)
                yield node.attr, f"{owner.__name__} ({short(inspect.getfile(owner))}:{first + node.lineno - 1})"


def texts(case: Case) -> Iterator[str]:
    """Yield the text of each of the author's files."""
    for file in case.source_files():
        yield file.read_text(encoding="utf-8")
