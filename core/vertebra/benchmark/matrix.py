"""The runs of a suite: composed and checked together, done or found, and taken to a leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vertebra.benchmark.suite import Suite, overrides
from vertebra.cli.arguments import quoted
from vertebra.config.compose import compose_in
from vertebra.config.session import hydra_session
from vertebra.errors import ConfigError
from vertebra.host.manager import Host
from vertebra.runs.collect import Entry
from vertebra.runs.folder import RunFolder
from vertebra.runs.jobs import Job, JobResult


def jobs_of(suite: Suite, data: Path | None, host: Host) -> list[Job]:
    """Return a job for each task, system and seed; one `ConfigError` lists all that is wrong, and where."""
    jobs: list[Job] = []
    wrong: dict[str, list[str]] = {}
    with hydra_session(host) as hydra:
        for task in suite.tasks:
            for system in suite.systems:
                for seed in suite.seeds:
                    settings = quoted(overrides(suite, task, system, seed, data), host)
                    try:
                        config = compose_in(hydra, settings, host, folder=lambda _: Path()).config
                    except ConfigError as error:
                        for line in str(error).splitlines():
                            wrong.setdefault(line, []).append(f"task {task}, system {system}, seed {seed}")
                    else:
                        jobs.append(Job(config, {"task": task, "system": system, "seed": seed}))
    if wrong:
        total = len(suite.tasks) * len(suite.systems) * len(suite.seeds)
        raise ConfigError(
            "\n".join(f"{line} (in {len(runs)} of {total} runs, as {runs[0]})" for line, runs in wrong.items())
        )
    return jobs


def entries_of(results: Sequence[JobResult]) -> list[Entry]:
    """Return the runs that have finished as entries of a leaderboard, in the suite's order of tasks."""
    return [
        Entry(str(one.job.axes["task"]), str(one.job.axes["system"]), RunFolder(one.folder))
        for one in results
        if one.status == "finished"
    ]


def notes_of(results: Sequence[JobResult]) -> list[str]:
    """Return a line for each run that is not in the leaderboard, with the reason."""
    return [
        f"{one.job.axes['system']} on {one.job.axes['task']} with seed {one.job.axes['seed']} is missing: "
        f"{one.reason or one.status}"
        for one in results
        if one.status != "finished"
    ]
