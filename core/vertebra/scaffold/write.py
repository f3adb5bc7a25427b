"""Write the package of a new plugin."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from vertebra.errors import ConfigError
from vertebra.host.manager import Host
from vertebra.names import unknown
from vertebra.scaffold.families import FAMILIES

LONGEST = 30
NAME = re.compile(r"[a-z](_?[a-z0-9])*")
TEMPLATE = ".j2"
PLACES = {"package": "vertebra_{name}", "sample.yaml": "{name}/sample.yaml", "test_task.py": "test_{name}.py"}
"""The parts of a template's path that stand for another name."""
HIDDEN = {"gitignore": ".gitignore", "test.yml": ".github/workflows/test.yml"}
"""Files whose names begin with a dot in the package, and in the templates do not, so that no tool takes them for its own."""


def write_plugin(name: str, family: str, folder: Path, host: Host) -> list[Path]:
    """Write the package of a task of that name into a new folder; return its files, sorted, relative to the folder.

    Raises `ConfigError` for a name that cannot be one or is taken, an unknown family, and a folder that exists.
    """
    check_family(family)
    check_name(name, host)
    if folder.exists():
        raise ConfigError(
            f"'{folder}' exists already: remove it, choose another name, or another place with --into FOLDER."
        )
    if not folder.parent.is_dir():
        raise ConfigError(f"There is no folder '{folder.parent}' to write '{folder.name}' into.")
    files = dict(render(name, family))
    try:
        for path, text in files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return sorted(files)


def check_family(family: str) -> None:
    """Raise `ConfigError` for a family that does not exist."""
    if family not in FAMILIES:
        raise ConfigError(unknown("family", family, FAMILIES))


def check_name(name: str, host: Host) -> None:
    """Raise `ConfigError` for a name that is none for a task, or that something installed has already."""
    if not NAME.fullmatch(name) or len(name) > LONGEST or keyword.iskeyword(name):
        raise ConfigError(
            f"'{name}' is no name for a task: use at most {LONGEST} lower-case letters, digits and single _ between them, "
            f"a letter first, and no word of Python's own{_suggestion(name)}."
        )
    if name in host.names("task"):
        owner = next(one for one in host.plugins if name in one.registers.get("task", ()))
        raise ConfigError(f"There is a task '{name}' already, of {owner.label}. Choose another name.")
    for plugin in host.plugins:
        if plugin.name == name:
            raise ConfigError(f"There is a {plugin.label} already. Choose another name, or uninstall it.")
    if importlib.util.find_spec(package_of(name)) is not None:
        raise ConfigError(f"There is a Python package '{package_of(name)}' already. Choose another name.")


def render(name: str, family: str) -> Iterator[tuple[Path, str]]:
    """Yield the path in the plugin's folder, and the text, of each file of a package."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader(__package__), keep_trailing_newline=True, trim_blocks=True, undefined=StrictUndefined
    )
    names = _names(name, family)
    # What a family has itself stands in for what is common to all.
    chosen = {path: f"{part}/{path}" for part in ("common", family) for path in _templates(_folder(part))}
    for path, template in chosen.items():
        yield _placed(path.removesuffix(TEMPLATE), name), jinja.get_template(template).render(names)


def package_of(name: str) -> str:
    """Return the Python package of a task's plugin."""
    return f"vertebra_{name}"


def _names(name: str, family: str) -> dict[str, Any]:
    """Return what the templates may name."""
    facts = asdict(FAMILIES[family])
    module, _, config = facts.pop("config").partition(":")
    return {
        **facts,
        "name": name,
        "family": family,
        "package": package_of(name),
        "distribution": package_of(name).replace("_", "-"),
        "task": "".join(word.capitalize() for word in name.split("_")),
        "config_module": module,
        "config_base": config,
        "baselines_here": any("baselines" in one for one in _templates(_folder(family))),
    }


def _placed(path: str, name: str) -> Path:
    parts = [HIDDEN.get(part, PLACES.get(part, part)).format(name=name) for part in path.split("/")]
    return Path(*parts)


def _folder(part: str) -> Traversable:
    return resources.files(__package__) / "templates" / part


def _templates(folder: Traversable, above: str = "") -> Iterator[str]:
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.is_dir():
            yield from _templates(entry, f"{above}{entry.name}/")
        elif entry.name.endswith(TEMPLATE):
            yield above + entry.name


def _suggestion(name: str) -> str:
    near = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()).strip("_")
    usable = NAME.fullmatch(near) and len(near) <= LONGEST and not keyword.iskeyword(near)
    return f"; '{near}' would be one" if usable else ""
