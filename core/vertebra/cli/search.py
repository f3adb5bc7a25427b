"""`vertebra search`: settings chosen by Optuna, one trial after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.cli.parser import Parser
from vertebra.errors import ConfigError, StoppedError
from vertebra.host.manager import Host, create_host

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from optuna.distributions import BaseDistribution

    from vertebra.runs.jobs import Job, JobResult

DESCRIPTION = """\
Search for good settings: each trial is a run whose settings follow from the scores on validation of those before it.

  trainer.learning_rate="tag(log, interval(1e-5, 1e-2))"   any number of a range, by its logarithm
  trainer.epochs="int(interval(1, 10))"                    any whole number of a range; range(1, 10) leaves out the last
  backbone=gpt2,distilgpt2                                 one of these; choice(…) is the same

The same command goes on with a search that was killed; a larger --trials extends it."""
EPILOG = """\
Example: vertebra search task=ner trainer.learning_rate="tag(log, interval(1e-4, 1e-2))" task.dropout=0,0.1,0.3 --trials 20"""


def main(argv: Sequence[str]) -> int:
    """Run `vertebra search` with these arguments; 1 where a trial failed."""
    arguments = parser().parse_intermixed_args(list(argv))
    if arguments.trials < 1:
        raise ConfigError(f"--trials {arguments.trials}: at least 1.")
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ConfigError("vertebra search needs Optuna: pip install 'vertebra[optuna]'.") from None
    host = create_host()

    from vertebra.cli.arguments import quoted
    from vertebra.cli.sweep import apart, mergeable, parsed
    from vertebra.config.session import hydra_session
    from vertebra.runs.search import Plan, search

    with hydra_session(host) as hydra:
        overrides, own = apart(quoted(arguments.overrides, host, multirun=True))
        if own:
            raise ConfigError(f"{own[0]}: a search takes no settings of Hydra itself; its place is --folder FOLDER.")
        every = parsed(hydra, [mergeable(one) for one in overrides])
        space = {str(one.get_key_element()): distribution(one) for one in every if one.is_sweep_override()}
        if not space:
            raise ConfigError("Nothing to search: give a setting a range, as in task.dropout=0,0.1,0.3.")
        fixed = [str(one.input_line) for one in every if not one.is_sweep_override()]
        plan = Plan(arguments.trials, not arguments.no_prune, arguments.seed)
        folder = arguments.folder.expanduser().absolute()
        print(f"Search folder: {folder}", flush=True)
        try:
            results = search(partial(make_job, hydra, fixed, host), space, folder, host, plan, fixed)
        except (KeyboardInterrupt, StoppedError):
            print("\nStopped. The same command goes on from here.", flush=True)
            return 130
    show(results, folder, host)
    return 0 if all(one.status in ("finished", "pruned") for one in results) else 1


def parser() -> Parser:
    """Return the parser of the command line."""
    from argparse import RawDescriptionHelpFormatter

    parser = Parser(
        prog="vertebra search",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="the settings of `vertebra train`, some as ranges"
    )
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="how many in all (20)")
    parser.add_argument("--folder", type=Path, default=Path("runs/search"), help="where (runs/search)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what the search draws (0)")
    parser.add_argument("--no-prune", action="store_true", help="finish every trial, also those without promise")
    return parser


def distribution(override: Override) -> BaseDistribution:
    """Return the distribution of a setting; `ConfigError` where it stands for no value."""
    from hydra.core.override_parser.types import IntervalSweep, RangeSweep
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = override.value()
    try:
        if isinstance(value, IntervalSweep):
            kind: Any = IntDistribution if isinstance(value.start, int) else FloatDistribution
            made: BaseDistribution = kind(value.start, value.end, log="log" in value.tags)
            return made
        values = list(override.sweep_string_iterator())
        if isinstance(value, RangeSweep) and all(isinstance(one, int) for one in (value.start, value.stop, value.step)):
            return IntDistribution(int(values[0]), int(values[-1]), step=int(value.step))
        return CategoricalDistribution(values)
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{override.input_line}: {str(error).splitlines()[0]}") from None


def make_job(hydra: Any, fixed: Sequence[str], host: Host, settings: Mapping[str, Any]) -> Job:
    """Compose a trial."""
    from vertebra.cli.sweep import axis
    from vertebra.config.compose import compose_in
    from vertebra.runs.jobs import Job

    own = [f"{name}={value}" for name, value in settings.items()]
    composition = compose_in(hydra, [*fixed, *own], host, folder=lambda _: Path())
    return Job(composition.config, dict(map(axis, own)))


def show(results: Sequence[JobResult], folder: Path, host: Host) -> None:
    """Print the table and the best trial, and write them."""
    from vertebra.cli.sweep import show as show_table

    show_table(results, folder, host)
    finished = [one for one in results if one.status == "finished"]
    if finished:
        chosen = best(finished, host)
        print(f"Best on validation: {chosen.job.title}\nIts run: {chosen.folder}", flush=True)


def best(finished: Sequence[JobResult], host: Host) -> JobResult:
    """Return the trial with the best score of validation, the first of equal ones."""
    from vertebra.runs.search import Aim

    aim = Aim.of(finished[0].job, host)
    sign = 1 if aim.higher_is_better else -1
    return max(finished, key=lambda one: sign * one.metrics["valid"][aim.metric])
