"""Whether every option that the plugin declares composes, and every value that a setting can have makes a task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vertebra.config.compose import compose
from vertebra.config.defaults import plain
from vertebra.config.options import Option, configure, find_options, sample_of
from vertebra.config.schema import RunConfig
from vertebra.data.rows import check_mapping
from vertebra.data.splits import SPLITS
from vertebra.errors import ConfigError, VertebraError
from vertebra.host.hooks import describe
from vertebra.names import unknown
from vertebra.runs.tasks import load_task
from vertebra.tasks.task import Task
from vertebra.testing.breaches import Breach
from vertebra.testing.case import Case

PATH_MISSING = "data.path must be given"


def check(case: Case) -> Iterator[Breach]:
    """Compose the task with each option of its plugin, then with each value of its settings."""
    options = find_options(case.host)
    if sample_of(case.name, options) is None and not case.data:
        yield Breach(
            f"conf/data/{case.name}/sample.yaml",
            f"there is no data={case.name}/sample, which `vertebra train task={case.name}` takes",
            "the file is missing in a package of register_config_packages, its folder has no __init__.py, or the wheel leaves "
            "out the YAML",
        )
        return
    own = case.plugin.registers.get("config package", ())
    for group, some in options.items():
        for option in some.values():
            if option.package in own and (group != "data" or option.name.startswith(f"{case.name}/")):
                yield from check_option(case, option)
    yield from check_values(case)


def check_option(case: Case, option: Option) -> Iterator[Breach]:
    """Compose one option."""
    where = f"{option.package}, {option.group}/{option.name}.yaml"
    cause = (
        "a key that is misspelt or belongs to another group, a value of another type, or a name that is not registered"
    )
    try:
        config = composed(case, [f"task={case.name}", f"{option.group}={option.name}"])
        if option.group == "data":
            check_data(config, load_task(config.tasks[0], case.host))
    except VertebraError as error:
        yield Breach(where, str(error), cause)
    except Exception as error:  # a YAML file that is none
        yield Breach(where, describe(error), cause)


def composed(case: Case, overrides: Sequence[str]) -> RunConfig:
    """Return the run; data that need a path get an empty folder."""
    try:
        return compose(overrides, case.host).config
    except ConfigError as error:
        if PATH_MISSING not in str(error):
            raise
    (case.folder / "data").mkdir(exist_ok=True)
    return compose([*overrides, f"data.path='{case.folder / 'data'}'"], case.host).config


def check_data(config: RunConfig, task: Task) -> None:
    """Raise `VertebraError` for columns and splits that are none."""
    data = config.tasks[0].data
    check_mapping(data, task.columns)
    if data.split_by is not None and data.split_by not in task.columns:
        raise ConfigError(f"data.split_by: {unknown('column of the task', data.split_by, task.columns)}")
    for split in data.splits:
        if split not in SPLITS:
            raise ConfigError(f"data.splits: {unknown('split', split, SPLITS)}")


def check_values(case: Case) -> Iterator[Breach]:
    """Make a task with each value of each setting that has a few; a refusal in words is right."""
    owner = case.ref.load_config()
    hints = get_type_hints(owner) if owner is not None else {}
    for field in fields(owner) if owner is not None else ():
        for value in values_of(hints[field.name]):
            try:
                task = {"option": case.name, **case.settings, field.name: value}
                load_task(configure(case.host, task=task, data=case.data).tasks[0], case.host)
            except VertebraError:
                continue
            except Exception as error:
                yield Breach(
                    case.place("__init__"),
                    f"task.{field.name}={plain(value)} stops it with {describe(error)}",
                    "a value that the config's type allows and the code does not know: refuse it with a ConfigError",
                )


def values_of(kind: Any) -> list[Any]:
    """Return the values of a type that has a few: a Literal's, or true and false."""
    if kind is bool:
        return [True, False]
    return list(get_args(kind)) if get_origin(kind) is Literal else []
