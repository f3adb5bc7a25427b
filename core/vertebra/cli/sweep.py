"""`vertebra train --multirun`: every run of a sweep is checked before the first one starts; Hydra launches them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, read_write
from omegaconf.errors import OmegaConfBaseException

from vertebra.cli.arguments import in_quotes
from vertebra.config.compose import compose_in, document_of, folder_of, one_line, unreadable
from vertebra.config.resolve import resolve
from vertebra.config.session import PRIMARY, hydra_session
from vertebra.errors import ConfigError, RunError, StoppedError, VertebraError
from vertebra.host.manager import Host, create_host


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its folder below the sweep's, and the overrides that not all runs share."""

    folder: Path
    changes: str


def sweep(overrides: Sequence[str], host: Host) -> int:
    """Check every run of the sweep, launch them, show the scores; return 0, or 2 where a run failed.

    The runs of Hydra's basic sweeper are known, and checked, before the first one starts. Another sweeper
    (`hydra/sweeper=…`) chooses its runs as it goes, and each is checked when its turn comes.
    """
    overrides = [mergeable(override) for override in overrides]
    basic = not any(override.startswith("hydra/sweeper=") for override in overrides)
    with hydra_session(host) as hydra:
        jobs = check(hydra, expand(hydra, overrides), host) if basic else []
        try:
            composed = hydra.compose_config(PRIMARY, list(overrides), RunMode.MULTIRUN, with_log_configuration=False)
            folder = folder_of(composed.hydra.sweep, "dir")
            print(f"Sweep folder: {folder}", flush=True)
            place = f"hydra.sweep.dir={in_quotes(str(folder))}"
            hydra.multirun(PRIMARY, run_job, [*overrides, place, "hydra.mode=MULTIRUN"])
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(one_line(error)) from error
        except VertebraError:  # its run has said why, and the others went on
            failed = True
        else:
            failed = False
    print_results(folder, jobs, host)
    return 2 if failed else 0


def mergeable(override: str) -> str:
    """Return an override so that Hydra merges new keys: a mapping's, and the settings that an adapter has by itself."""
    key, _, value = override.partition("=")
    new = value.startswith("{") or key.lstrip("+").startswith("adapter.")
    return f"++{override.lstrip('+')}" if new and not key.startswith("~") else override


def expand(hydra: Any, overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each run: every combination of the values that commas part."""
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    parsed, errors = [], []
    for text in overrides:
        try:
            parsed += parser.parse_overrides([text])
        except HydraException:
            errors.append(unreadable(text))
    if errors:
        raise ConfigError("\n".join(errors))
    try:
        (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException as error:
        raise ConfigError(one_line(error)) from None
    return jobs


def check(hydra: Any, jobs: Sequence[Sequence[str]], host: Host) -> list[Job]:
    """Compose and check every run; one `ConfigError` lists all that is wrong, and in which runs."""
    shared = set.intersection(*map(set, jobs))
    checked: list[Job] = []
    wrong: dict[str, list[str]] = {}
    for number, overrides in enumerate(jobs):
        changes = " ".join(override for override in overrides if override not in shared)
        try:
            composition = compose_in(hydra, overrides, host, partial(_subfolder, number=number))
            checked.append(Job(composition.folder, changes))
        except ConfigError as error:
            for line in str(error).splitlines():
                wrong.setdefault(line, []).append(changes)
    if wrong:
        raise ConfigError(
            "\n".join(
                line if len(runs) == len(jobs) else f"{line} (in {len(runs)} of {len(jobs)} runs, as {runs[0]})"
                for line, runs in wrong.items()
            )
        )
    return checked


def run_job(composed: DictConfig) -> float | None:
    """Do one run of a sweep; return the validation score that picks its best checkpoint, for sweepers that ask for it.

    It stands by itself, so that a launcher may run it in a process of its own.
    """
    node = HydraConfig.get()
    folder = Path(node.runtime.output_dir)
    changes = [override for override in node.overrides.task if not override.startswith("hydra.")]
    print(f"\nRun {node.job.num}: {' '.join(changes)}\nRun folder: {folder}", flush=True)
    host = create_host()
    try:
        config = resolve(document_of(composed), host)
        from vertebra.runs.execute import train

        scores = train(config, folder, host).metrics
    except StoppedError as error:
        print(f"vertebra: run {node.job.num}: {error}", file=sys.stderr, flush=True)
        raise KeyboardInterrupt from None  # whoever stops a run of a sweep stops the sweep
    except VertebraError as error:
        print(f"vertebra: run {node.job.num} failed: {error}", file=sys.stderr, flush=True)
        raise
    valid = scores.get("valid") or {}
    # The loss, which may be what chooses checkpoints, is no score.
    return valid.get(config.trainer.metric or "", next(iter(valid.values()), None))


def print_results(folder: Path, jobs: Sequence[Job], host: Host) -> None:
    """Print a line for each run: its changes, how it ended, and its first score on each split."""
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "changes", "status", "score", "valid", "test", box=None, pad_edge=False)
    for job in jobs:
        table.add_row(str(job.folder), job.changes, *_outcome(folder / job.folder, host))
    if jobs:
        print()
        Console(highlight=False).print(table)


def _outcome(folder: Path, host: Host) -> tuple[str, str, str, str]:
    """Return how a run ended, the name of its first score, and that score on validation and test."""
    from vertebra.report.scale import Scale
    from vertebra.runs.folder import RunFolder

    run = RunFolder(folder)
    try:
        status = str(run.read_state()["status"])
        scores = run.read_json("metrics.json") if status == "finished" else {}
    except RunError:
        return "not started", "", "", ""
    scale = Scale.of(host)
    name = next((name for split in scores.values() for name in split), "")
    valid, test = (
        scale.score(name, scores[split][name]) if name in scores.get(split, {}) else "" for split in ("valid", "test")
    )
    return status, name, valid, test


def _subfolder(node: DictConfig, number: int) -> Path:
    """Return a run's folder below the sweep's, as Hydra's launchers will name it."""
    with read_write(node):
        node.job.num = number
        node.job.id = str(number)
    return Path(str(node.sweep.subdir))
