"""`vertebra train --multirun`: every job of a sweep is checked before the first one starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from vertebra.cli.launchers import chosen_launcher, compose
from vertebra.config.compose import compose_in, folder_of, one_line, unreadable
from vertebra.config.options import find_options
from vertebra.config.session import hydra_session
from vertebra.errors import ConfigError, StoppedError
from vertebra.host.manager import Host
from vertebra.report.scale import Scale
from vertebra.report.sweep import print_sweep, write_sweep
from vertebra.runs.jobs import Job, JobResult, folders_of, read_result
from vertebra.runs.sweep import run_jobs

FINISHED, FAILED, INTERRUPTED = 0, 1, 130


def sweep(overrides: Sequence[str], host: Host) -> int:
    """Check every job, do those that are not done, show the table; return 0, or 1 where a job has not finished."""
    with hydra_session(host) as hydra:
        settings, own = apart(overrides)
        composed = compose(hydra, own)
        folder, launch = folder_of(composed.hydra.sweep, "dir"), chosen_launcher(hydra, own, composed)
        jobs = check(hydra, [mergeable(override) for override in settings], host)
        print(f"Sweep folder: {folder}", flush=True)
        try:
            results = run_jobs(jobs, folder, host, launch=launch)
        except (KeyboardInterrupt, StoppedError):
            runs = folders_of(jobs, folder, host)
            show([read_result(job, run) for job, run in zip(jobs, runs, strict=True)], folder, host)
            print("\nStopped. The same command goes on from here.", flush=True)
            return INTERRUPTED
    show(results, folder, host)
    return FINISHED if all(one.status == "finished" for one in results) else FAILED


def show(results: Sequence[JobResult], folder: Path, host: Host) -> None:
    """Print the table, and write it."""
    print_sweep(results, Scale.of(host))
    write_sweep(folder, results)
    print(f"\nTable: {folder / 'sweep.csv'}", flush=True)


def apart(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the overrides of the jobs, and those of Hydra's own settings."""
    own = [override for override in overrides if override.lstrip("+~").startswith(("hydra.", "hydra/"))]
    for override in own:
        if override.startswith("hydra/sweeper="):
            raise ConfigError(f"{override}: a sweep makes every combination. `vertebra search` chooses as it goes.")
        if override.startswith("hydra.sweep.subdir="):
            raise ConfigError(f"{override}: the folders of a sweep's jobs are named by what decides their results.")
    return [override for override in overrides if override not in own], own


def mergeable(override: str) -> str:
    """Return an override so that Hydra merges new keys: a mapping's, and the settings that an adapter has by itself."""
    key, _, value = override.partition("=")
    new = value.startswith("{") or key.lstrip("+").startswith("adapter.")
    return f"++{override.lstrip('+')}" if new and not key.startswith("~") else override


def expand(hydra: Any, overrides: Sequence[str], host: Host) -> tuple[list[Override], list[list[str]]]:
    """Return the overrides, and those of each job: every combination of the values that commas part."""
    every, errors = parsed(hydra, overrides), []
    options = find_options(host)
    for text, one in zip(overrides, every, strict=True):
        if one.is_sweep_override() and not one.is_discrete_sweep():
            errors.append(
                f"{text}: a sweep makes every combination of values. `vertebra search` tries some of a range."
            )
        elif one.is_sweep_override() and not list(one.sweep_string_iterator()):
            known = ", ".join(sorted(options.get(one.key_or_group, ())))
            errors.append(f"{text}: it stands for no value.{f' Known: {known}.' if known else ''}")
    if errors:
        raise ConfigError("\n".join(errors))
    try:
        (jobs,) = BasicSweeper.split_arguments(every, max_batch_size=None)
    except HydraException as error:
        raise ConfigError(one_line(error)) from None
    return every, jobs


def parsed(hydra: Any, overrides: Sequence[str]) -> list[Override]:
    """Return the overrides as Hydra reads them; one `ConfigError` for all that it cannot read."""
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    read: list[Override] = []
    errors = []
    for text in overrides:
        try:
            read += parser.parse_overrides([text])
        except HydraException:
            errors.append(unreadable(text))
    if errors:
        raise ConfigError("\n".join(errors))
    return read


def check(hydra: Any, overrides: Sequence[str], host: Host) -> list[Job]:
    """Compose and check every job; one `ConfigError` lists all that is wrong, and in which jobs."""
    every, combinations = expand(hydra, overrides, host)
    swept = {one.get_key_element() for one in every if one.is_sweep_override()}
    checked: list[Job] = []
    wrong: dict[str, list[str]] = {}
    for own in combinations:
        axes = dict(map(axis, (override for override in own if override.partition("=")[0] in swept)))
        try:
            checked.append(Job(compose_in(hydra, own, host, folder=lambda _: Path()).config, axes))
        except ConfigError as error:
            for line in str(error).splitlines():
                wrong.setdefault(line, []).append(" ".join(f"{name}={value}" for name, value in axes.items()))
    if wrong:
        raise ConfigError(
            "\n".join(
                line
                if len(runs) == len(combinations)
                else f"{line} (in {len(runs)} of {len(combinations)} jobs, as {runs[0]})"
                for line, runs in wrong.items()
            )
        )
    return checked


def axis(override: str) -> tuple[str, Any]:
    """Return the name and the value of one job's override: a number where it is one, else a text."""
    parsed = OverridesParser.create().parse_override(override)
    value = parsed.value()
    plain = value if isinstance(value, bool | int | float) else override.partition("=")[2].strip("'\"")
    return parsed.key_or_group, plain
