"""What the code says of itself, as Markdown: docstrings, the texts below fields, signatures."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

QUOTED = re.compile(r"(: |-> )(['\"])(.*?)\2")


def text_of(thing: object) -> str:
    """Return a docstring as Markdown: one line a paragraph, what is indented in a fence; empty where there is none."""
    parts = inspect.cleandoc(getattr(thing, "__doc__", None) or "").split("\n\n")
    return "\n\n".join(_fenced(part) if part.startswith("    ") else " ".join(part.split()) for part in parts)


def _fenced(part: str) -> str:
    return f"```text\n{textwrap.dedent(part)}\n```"


def descriptions(owner: type) -> dict[str, str]:
    """Return the text below each field of a class and of those that it derives from."""
    found: dict[str, str] = {}
    for one in reversed(owner.__mro__[:-1]):
        if one.__module__.startswith("vertebra"):
            found |= texts_below(ast.parse(textwrap.dedent(inspect.getsource(one))).body[0].body)  # type: ignore[attr-defined]
    return found


def text_below(module: ModuleType, name: str) -> str:
    """Return the text below an assignment in a module; empty where there is none."""
    return texts_below(ast.parse(inspect.getsource(module)).body).get(name, "")


def texts_below(body: Sequence[ast.stmt]) -> dict[str, str]:
    """Return the text below each assignment that has one."""
    found = {}
    for statement, below in pairwise(body):
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            found.update(dict.fromkeys(names, " ".join(below.value.value.split())))
    return found


def signature(function: Callable[..., Any], *, bound: bool = False) -> str:
    """Return arguments and result as they stand in the source, without `self` where the function is `bound`."""
    found = inspect.signature(function)
    arguments = [one for one in found.parameters.values() if not (bound and one.name in ("self", "cls"))]
    return QUOTED.sub(r"\1\3", str(found.replace(parameters=arguments)))
