"""The reference of the public names: every name of `vertebra`, with what its docstring says, on the page of its package.

A new name stands on the page of the package that it is imported from; a package that no page has is added to `PAGES`.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

from docstrings import descriptions, signature, text_below, text_of

import vertebra
from vertebra.config.defaults import GROUPS

PAGES = {
    "python": ("vertebra.runs", "vertebra.config", "vertebra.errors", "vertebra.engine.heads"),
    "tasks": ("vertebra.tasks", "vertebra.engine.packing"),
    "metrics": ("vertebra.metrics", "vertebra.report"),
    "generation": ("vertebra.engine.generation",),
    "hooks": ("vertebra.host", "vertebra.engine.events", "vertebra.data"),
}
"""Which packages' public names a page of docs/reference holds."""

ALSO = (
    "vertebra.runs.load.LoadedRun",
    "vertebra.runs.loaded_tasks.LoadedTasks",
    "vertebra.runs.probe.ScoredHead",
    "vertebra.engine.heads.TrainedHead",
    "vertebra.config.schema.Strict",
    "vertebra.data.readers.NotedRows",
    "vertebra.engine.generation.request.Token",
    "vertebra.engine.events.RunStart",
    "vertebra.engine.events.StepEnd",
    "vertebra.engine.events.EvaluationEnd",
    "vertebra.engine.events.RunEnd",
    "vertebra.errors.ConfigError",
    "vertebra.errors.DataError",
    "vertebra.errors.BackboneError",
    "vertebra.errors.PluginError",
    "vertebra.errors.RunError",
    "vertebra.errors.StoppedError",
)
"""What is not imported from `vertebra` itself, and met all the same: results, arguments of hooks, kinds of errors."""


@dataclasses.dataclass(frozen=True)
class Name:
    """A public name: where it is imported from, the module it lives in, and the thing itself."""

    name: str
    public: str
    module: str
    thing: Any


def public_names() -> Iterator[Name]:
    """Yield every public name with its home, those of `vertebra` first."""
    for name in vertebra.__all__:
        if name != "__version__":
            yield Name(name, f"vertebra.{name}", vertebra._HOME[name], getattr(vertebra, name))
    for path in ALSO:
        module, _, name = path.rpartition(".")
        yield Name(name, path, module, getattr(importlib.import_module(module), name))


def page_of(one: Name) -> str:
    """Return the page that a name stands on; `LookupError` where no page has its package."""
    for page, packages in PAGES.items():
        if any(f"{one.module}.".startswith(f"{package}.") for package in packages):
            return page
    raise LookupError(f"{one.public} lives in {one.module}: add that package to PAGES in docs/public_names.py.")


def names(page: str) -> str:
    """Return the part of a page that describes its names."""
    level = "###" if page == "hooks" else "##"  # on that page the names are a section beside others
    return "\n\n".join(f"{level} {described(one)}" for one in public_names() if page_of(one) == page)


def described(one: Name) -> str:
    """Return a name, how it is called, its docstring and its members."""
    thing = one.thing
    parts = [one.name, f"```text\n{how(one)}\n```", text_for(one)]
    if inspect.isclass(thing):
        parts += [settings_link(thing) or fields(thing), methods(thing)]
    return "\n\n".join(filter(None, parts))


def text_for(one: Name) -> str:
    """Return what a name is: its docstring, or the text below its assignment."""
    if inspect.isclass(one.thing) or inspect.isfunction(one.thing):
        return text_of(one.thing)
    return text_below(importlib.import_module(one.module), one.name)


def how(one: Name) -> str:
    """Return where a name is imported from, and its arguments."""
    if inspect.isfunction(one.thing):
        return wrapped(f"{one.public}{signature(one.thing)}")
    if not inspect.isclass(one.thing):
        return one.public
    bases = [base.__name__ for base in one.thing.__bases__ if base.__module__.startswith("vertebra.")]
    return f"class {one.public}" + (f"({', '.join(bases)})" if bases else "")


def wrapped(text: str, width: int = 100) -> str:
    """Return a signature with an argument a line where it is longer than `width`."""
    if len(text) <= width or "(" not in text:
        return text
    head, _, rest = text.partition("(")
    arguments, _, result = rest.rpartition(")")
    depth, lines = 0, [""]
    for letter in arguments:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            lines[-1] += ","
            lines.append("")
        else:
            lines[-1] += letter
    return "\n".join([f"{head}(", *(f"    {line.strip()}" for line in lines), f"){result}"])


def settings_link(thing: type) -> str:
    """Return where the fields of a configuration group are described, which is the page of the settings."""
    groups = [group for group, owner in GROUPS.items() if owner is thing]
    return f"Its fields are [the settings `{groups[0]}.…`](../configuration.md#{groups[0]})." if groups else ""


def fields(thing: type) -> str:
    """Return a table of the attributes that have a text: a dataclass's fields, a class's own declarations."""
    texts = descriptions(thing)
    annotated = {
        name: hint for one in reversed(thing.__mro__) for name, hint in vars(one).get("__annotations__", {}).items()
    }
    own = [
        name for name in annotated if not name.startswith("_") and (dataclasses.is_dataclass(thing) or name in texts)
    ]
    if not own:
        return ""
    rows = [
        f"| `{name}` | `{escaped(annotated[name])}{escaped(default(thing, name))}` | {escaped(texts.get(name, ''))} |"
        for name in own
    ]
    return "\n".join(["| | type | |", "|---|---|---|", *rows])


def default(thing: type, name: str) -> str:
    """Return ` = VALUE` for an attribute that has a plain default; fields made by a function show none."""
    value = vars(thing).get(name, dataclasses.MISSING)
    return f" = {value!r}" if isinstance(value, bool | int | float | str | tuple | None) else ""


def escaped(text: object) -> str:
    """Return a text as it stands in a cell of a table."""
    return str(text).replace("ClassVar[", "").removesuffix("]" if "ClassVar[" in str(text) else "").replace("|", "\\|")


def methods(thing: type) -> str:
    """Return a list of the methods and properties that a class itself defines."""
    return "\n".join(
        method(name, member) for name, member in vars(thing).items() if not name.startswith("_") and is_member(member)
    )


def is_member(member: object) -> bool:
    """Whether something in a class's body is a method or a property."""
    return (
        inspect.isfunction(member)
        or isinstance(member, property | classmethod | staticmethod)
        or hasattr(member, "func")
    )


def method(name: str, member: Any) -> str:
    """Return one item of the list."""
    function = getattr(member, "__func__", member)
    shown = f"{name}{signature(function, bound=True)}" if inspect.isfunction(function) else name
    return "\n".join([f"- `{shown}`<br>", *(f"  {line}".rstrip() for line in text_of_member(member).splitlines())])


def text_of_member(member: Any) -> str:
    """Return the docstring of a method or a property."""
    for inner in ("fget", "func", "__func__"):  # of a property, a cached one, a class method
        member = getattr(member, inner, member)
    return text_of(member)
