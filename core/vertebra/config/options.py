"""The option files of the configuration groups, and the same run from Python without Hydra."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import yaml

from vertebra.config.defaults import GROUPS, defaults_of, plain, task_defaults
from vertebra.config.resolve import resolve, two_training_files
from vertebra.config.schema import (
    AdapterConfig,
    BackboneConfig,
    DataConfig,
    GPUConfig,
    RunConfig,
    TaskChoice,
    TrainerConfig,
)
from vertebra.config.validate import read_field, unknown_keys
from vertebra.errors import ConfigError, PluginError
from vertebra.host.manager import Host, create_host
from vertebra.names import unknown

Settings = Mapping[str, Any]
"""Changed fields of a group; the key `option` names the option that they change."""


@dataclass(frozen=True)
class Option:
    """One option of a group: a YAML file in a package."""

    group: str
    name: str
    package: str
    file: Traversable

    def read(self) -> dict[str, Any]:
        """Return what the file sets."""
        settings: dict[str, Any] = yaml.safe_load(self.file.read_text(encoding="utf-8")) or {}
        if "defaults" in settings:
            raise ConfigError(f"{self.group}={self.name} is made of other options: only the command line composes it.")
        return settings


Options = dict[str, dict[str, Option]]
"""Option files by group and name."""
SUITE = "suite"
"""The group of benchmarks: no part of a run."""


def find_options(host: Host) -> Options:
    """Return every option file of the core and of the plugins; `PluginError` when two define the same option."""
    found: Options = {"data": {}, "experiment": {}}
    for package in host.config_packages:
        for option in _options_in(package):
            other = found.setdefault(option.group, {}).setdefault(option.name, option)
            if other is not option:
                raise PluginError(
                    f"The option {option.group}={option.name} is defined by '{other.package}' and by '{package}'."
                    " Uninstall one of the two plugins, or block it with VERTEBRA_DISABLE."
                )
    return found


def configure(
    host: Host | None = None,
    *,
    task: str | Settings | None = None,
    tasks: Sequence[str] | Mapping[str, Settings] | None = None,
    data: str | Settings | DataConfig | None = None,
    backbone: str | Settings | BackboneConfig = "nano",
    adapter: str | Settings | AdapterConfig = "none",
    gpu: str | Settings | GPUConfig = "auto",
    trainer: str | Settings | TrainerConfig = "default",
    seed: int = RunConfig.seed,
) -> RunConfig:
    """Return the run that the command line makes of the same choices, without Hydra.

    Each group takes the name of an option, a mapping of changed fields (its key `option` names the option that they
    change, by default the one in the signature), or the whole dataclass. A task's own sample is its data by default.

        configure(task="ner", data={"option": "ner/conll", "path": "my/data"}, trainer={"epochs": 3}, seed=2)

    Several tasks on one backbone are `tasks` instead of `task` and `data`: their names, or for each what `task`, `data`,
    `weight`, `share`, `rate` and `head_from` of it are.

        configure(tasks={"ner": {"data": "ner/conll"}, "sentiment": {"task": {"pooling": "last"}, "weight": 2.0}})

    `ConfigError` lists all that is wrong.
    """
    host = host or create_host()
    if tasks is not None:
        shared = {"backbone": backbone, "adapter": adapter, "gpu": gpu, "trainer": trainer, "seed": seed}
        return _configure_tasks(host, tasks, shared, alone=task is None and data is None)
    if task is None:
        raise ConfigError(f"Choose a task: task=NAME. Known: {', '.join(host.names('task')) or 'none'}.")
    options = find_options(host)
    name, changes = _choice(task, "")
    errors: list[str] = []
    document = {
        "task": merged(task_node(name or "", host), changes),
        "data": _group("data", {} if data is None else data, sample_of(name or "", options), options, errors),
        "backbone": _group("backbone", backbone, "nano", options, errors),
        "adapter": _group("adapter", adapter, "none", options, errors),
        "gpu": _group("gpu", gpu, "auto", options, errors),
        "trainer": _group("trainer", trainer, "default", options, errors),
        "seed": seed,
    }
    own = plain(data) if is_dataclass(data) else _choice(data or {}, None)[1]
    if not is_dataclass(data):
        errors += foreign_data(name, _choice(data or {}, None)[0])
    if "train" in (own.get("splits") or {}):
        errors += two_training_files(document["data"], host)
    return resolve(document, host, errors)


def _configure_tasks(
    host: Host, tasks: Sequence[str] | Mapping[str, Settings], shared: Mapping[str, Any], *, alone: bool
) -> RunConfig:
    """Return the run of several tasks, each of which is configured as a run of its own."""
    from vertebra.config.document import OF_CHOICE
    from vertebra.config.members import OWN, join, wrong_names

    errors = [] if alone else ["tasks= stands for task= and data=: give what is of one task under its name in tasks."]
    names = list(tasks)
    errors += wrong_names(names, host)
    settings: dict[str, Settings] = dict(tasks) if isinstance(tasks, Mapping) else {name: {} for name in names}
    for name, some in settings.items():
        errors += unknown_keys(f"tasks.{name}", some, OWN)
    if errors:
        raise ConfigError("\n".join(errors))
    members = [
        configure(host, task={**some.get("task", {}), "option": name}, data=some.get("data"), **shared)
        for name, some in settings.items()
    ]
    of_choice = {
        name: {key: read_field(TaskChoice, key, some[key], errors) for key in OF_CHOICE if key in some}
        for name, some in settings.items()
    }
    if errors:
        raise ConfigError("\n".join(errors))
    return join(members, host, of_choice)


def task_node(name: str, host: Host) -> dict[str, Any]:
    """Return a task's name and settings with their defaults; the name alone where the task cannot be had."""
    try:
        return task_defaults(host.get("task", name))
    except PluginError:
        return {"name": name} if name else {}


def sample_of(task: str, options: Options) -> str | None:
    """Return the option that is a task's data by default, if it brings one."""
    sample = f"{task}/sample"
    return sample if sample in options["data"] else None


def unknown_option(group: str, name: str, known: Iterable[str]) -> str:
    """Return the line for an option that does not exist."""
    return f"{group}={name}: {unknown('option', name, known)}"


def foreign_data(task: str | None, option: str | None) -> list[str]:
    """Return a line when the option is the data of another task."""
    if not task or not option or option.startswith(f"{task}/"):
        return []
    return [f"data={option}: not for task={task}, whose data options are named {task}/NAME."]


def merged(base: Any, *layers: Any) -> Any:
    """Return `base` with each layer laid over it: mappings key by key, all else as a whole."""
    for layer in layers:
        if isinstance(base, Mapping) and isinstance(layer, Mapping):
            base = {**base, **{key: merged(base.get(key), value) for key, value in layer.items()}}
        else:
            base = layer
    return base


def _group(group: str, argument: Any, default: str | None, options: Options, errors: list[str]) -> Any:
    """Return a group's settings: its defaults, then the option, then the changed fields."""
    if is_dataclass(argument):
        return plain(argument)
    name, changes = _choice(argument, default)
    settings: dict[str, Any] = {}
    if name in options[group]:
        settings = options[group][name].read()
    elif name is not None:
        errors.append(unknown_option(group, name, options[group]))
    return merged(defaults_of(GROUPS[group]), settings, changes)


def _choice(argument: str | Settings, default: str | None) -> tuple[str | None, Settings]:
    """Return the option that an argument names, and the fields that it changes."""
    if isinstance(argument, str):
        return argument, {}
    changes = dict(argument)
    return changes.pop("option", default), changes


def _options_in(package: str) -> Iterator[Option]:
    for group in resources.files(package).iterdir():
        if group.is_dir():
            yield from (Option(group.name, name, package, file) for name, file in _yaml_files(group))


def _yaml_files(folder: Traversable, above: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _yaml_files(entry, f"{above}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            yield above + entry.name.removesuffix(".yaml"), entry
