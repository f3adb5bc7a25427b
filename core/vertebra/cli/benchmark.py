"""`vertebra benchmark`: every system of a suite on every task with every seed, and a leaderboard of them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.cli.leaderboard import add_predictions, predictions_of, publish
from vertebra.cli.parser import Parser
from vertebra.errors import ConfigError, RunError, StoppedError
from vertebra.host.manager import Host, create_host

if TYPE_CHECKING:
    from vertebra.benchmark.suite import Choice

NAMED = ("tasks", "systems", "seeds")
FINISHED, FAILED, INTERRUPTED = 0, 1, 130


def main(argv: Sequence[str]) -> int:
    """Run `vertebra benchmark` with these arguments; 1 where a run has not finished."""
    host = create_host()
    arguments = parser(host).parse_intermixed_args(list(argv))

    from vertebra.benchmark.matrix import entries_of, jobs_of, notes_of
    from vertebra.benchmark.suite import chosen, data_folder, load_suite

    name, choice = read_choice(arguments.settings, arguments.system)
    suite = chosen(load_suite(name, host), choice)
    predictions = predictions_of(arguments.predictions, list(suite.tasks))
    jobs = jobs_of(suite, data_folder(suite, arguments.data), host)
    folder = (arguments.output or Path("runs") / "benchmark" / name).expanduser()
    runs = f"{len(suite.tasks)} tasks × {len(suite.systems)} systems × {len(suite.seeds)} seeds"
    print(f"{suite.title}: {runs} = {len(jobs)} runs\nFolder: {folder}", flush=True)
    if arguments.dry_run:
        for job in jobs:
            print(f"  {job.title}")
        return FINISHED

    from vertebra.runs.sweep import run_jobs

    try:
        results = run_jobs(jobs, folder / "runs", host)
    except (KeyboardInterrupt, StoppedError):
        print("\nStopped. The same command goes on from here.", flush=True)
        return INTERRUPTED
    entries, notes = entries_of(results), notes_of(results)
    if not entries:
        raise RunError("No run has finished:\n" + "\n".join(notes))
    # What others predicted is scored as the runs of its task are.
    scored = {entry.task for entry in entries}
    entries += [one for one in predictions if one.task in scored]
    notes += [
        f"{one.system} on {one.task} is missing: no run of this task has finished, which is needed to score predictions"
        for one in predictions
        if one.task not in scored
    ]
    publish(suite.title, entries, folder, host, notes)
    return FAILED if notes else FINISHED


def parser(host: Host) -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        "vertebra benchmark",
        description="Train every system of a suite on every task with every seed, and compare them: means with intervals, "
        "paired tests, ranks, costs. What is there already is taken as it is; the same command goes on where it was stopped.",
        epilog="example: vertebra benchmark suite=sample tasks=ner,sentiment seeds=1,2",
    )
    parser.add_argument(
        "settings",
        metavar="KEY=VALUE",
        nargs="*",
        help="suite=NAME; tasks=…, systems=… and seeds=… take some of it, with commas; all else is a setting of every run",
    )
    parser.add_argument("--data", metavar="FOLDER", type=Path, help="where the data sets are (or VERTEBRA_DATA=FOLDER)")
    parser.add_argument("--output", metavar="DIR", type=Path, help="by default runs/benchmark/NAME")
    parser.add_argument(
        "--system",
        metavar="'NAME: KEY=VALUE …'",
        action="append",
        default=[],
        help="one more system, as in --system 'lora: backbone=gpt2 adapter=lora'; may be given several times",
    )
    parser.add_argument("--dry-run", action="store_true", help="check and list the runs, and stop")
    add_predictions(parser)
    return parser


def read_choice(settings: Sequence[str], systems: Sequence[str]) -> tuple[str, Choice]:
    """Return the name of the suite, and what is asked of it; `ConfigError` where it cannot be read."""
    from vertebra.benchmark.suite import Choice

    given: dict[str, str] = {}
    others = []
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"'{text}' is no setting: write KEY=VALUE.")
        if key in ("suite", *NAMED):
            given[key] = value
        else:
            others.append(text)
    if not given.get("suite"):
        raise ConfigError("Choose a suite, as in: vertebra benchmark suite=sample")
    named = {key: [one for one in given.get(key, "").strip("[]").split(",") if one] for key in NAMED}
    seeds = named["seeds"]
    if not all(one.strip().isdigit() for one in seeds):
        raise ConfigError(f"seeds={given['seeds']}: write whole numbers with commas, as in seeds=1,2,3")
    return given["suite"], Choice(
        [one.strip() for one in named["tasks"]],
        [one.strip() for one in named["systems"]],
        [int(one) for one in seeds],
        others,
        dict(map(read_system, systems)),
    )


def read_system(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the name and the settings of a system that was given as `NAME: KEY=VALUE …`."""
    name, colon, settings = text.partition(":")
    if not colon or not name.strip():
        raise ConfigError(f"--system '{text}': write 'NAME: KEY=VALUE …', as in 'lora: backbone=gpt2 adapter=lora'.")
    try:
        return name.strip(), tuple(shlex.split(settings))
    except ValueError as error:
        raise ConfigError(f"--system '{text}': {error}.") from None
