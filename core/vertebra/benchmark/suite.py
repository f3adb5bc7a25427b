"""What a suite is: the option files of the group `suite`, which plugins may bring as well."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vertebra.config.options import SUITE, find_options, unknown_option
from vertebra.config.schema import Strict
from vertebra.config.validate import read
from vertebra.errors import ConfigError, DataError
from vertebra.host.manager import Host
from vertebra.names import unknown

DATA = "VERTEBRA_DATA"
"""The environment variable that names the folder of the data sets."""


@dataclass(frozen=True)
class SuiteTask(Strict):
    """One task of a suite."""

    data: str
    """The data option, TASK/NAME."""
    path: str | None = None
    """Where its data are below the folder of data; none for data that need no path."""
    settings: tuple[str, ...] = ()
    """Overrides for this task alone."""

    @property
    def task(self) -> str:
        """The registered name of the task."""
        return self.data.partition("/")[0]


@dataclass(frozen=True)
class Suite(Strict):
    """Every system is trained on every task with every seed."""

    title: str
    tasks: dict[str, SuiteTask]
    """By what they are called in the results."""
    systems: dict[str, tuple[str, ...]]
    """Backbones, adapters, settings: the overrides that make each system, by its name."""
    seeds: tuple[int, ...] = (1, 2, 3)
    settings: tuple[str, ...] = ()
    """Overrides of all runs: the budget."""


@dataclass(frozen=True)
class Choice:
    """What a user asks of a suite besides its name."""

    tasks: Sequence[str] = ()
    """Some of its tasks; all where none is named."""
    systems: Sequence[str] = ()
    seeds: Sequence[int] = ()
    settings: Sequence[str] = ()
    """Further overrides of all runs."""
    further: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further systems."""


def load_suite(name: str, host: Host) -> Suite:
    """Return a suite by its name; `ConfigError` lists all that is wrong with it."""
    known = find_options(host).get(SUITE, {})
    if name not in known:
        raise ConfigError(unknown_option(SUITE, name, known))
    errors: list[str] = []
    suite = read(Suite, known[name].read(), SUITE, errors)
    if suite is not None and not (suite.tasks and suite.systems and suite.seeds):
        errors.append("a suite needs at least one task, one system and one seed.")
    if suite is None or errors:
        raise ConfigError("\n".join(f"suite={name}: {error}" for error in errors))
    return suite


def chosen(suite: Suite, choice: Choice) -> Suite:
    """Return the part of a suite that a user wants, with what they add; `ConfigError` for names that it does not have."""
    systems = {**suite.systems, **choice.further}
    for kind, names, known in (("task", choice.tasks, suite.tasks), ("system", choice.systems, systems)):
        for name in names:
            if name not in known:
                raise ConfigError(f"{kind}s={name}: {unknown(f'{kind} of this suite', name, known)}")
    return replace(
        suite,
        tasks={
            name: replace(one, settings=(*one.settings, *choice.settings))  # over what the suite says of a task
            for name, one in suite.tasks.items()
            if name in (choice.tasks or suite.tasks)
        },
        systems={name: one for name, one in systems.items() if name in (choice.systems or systems)},
        seeds=tuple(choice.seeds) or suite.seeds,
    )


def overrides(suite: Suite, task: str, system: str, seed: int, data: Path | None) -> list[str]:
    """Return what `vertebra train` would be given for one run; what is said last counts."""
    one = suite.tasks[task]
    place = [f"data.path={data / one.path}"] if one.path and data is not None else []
    return [
        *(f"task={one.task}", f"data={one.data}", *place),
        *suite.settings,
        *one.settings,
        *suite.systems[system],
        f"seed={seed}",
    ]


def data_folder(suite: Suite, given: Path | None) -> Path | None:
    """Return the folder of the data sets, where the suite needs one; `DataError` names what is missing there."""
    needed = [one.path for one in suite.tasks.values() if one.path]
    if not needed:
        return None
    folder = given or (Path(os.environ[DATA]) if os.environ.get(DATA) else None)
    if folder is None:
        raise DataError(
            f"The suite reads {', '.join(needed)}: say with --data FOLDER, or {DATA}=FOLDER, where they are."
        )
    missing = [path for path in needed if not (folder / path).exists()]
    if missing:
        raise DataError(
            f"'{folder}' does not hold {', '.join(missing)}. Give another folder, or fewer tasks: tasks=NAME,…"
        )
    return folder.resolve()
