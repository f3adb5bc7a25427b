"""`vertebra train`: one run, or with `--multirun` a sweep of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import TextWrapper
from typing import Any

from vertebra.cli.arguments import Arguments, parse
from vertebra.config.task_list import names_tasks
from vertebra.engine.ranks import rank
from vertebra.errors import ConfigError
from vertebra.host.manager import Host, create_host

HELP = """\
usage: vertebra train task=TASK [GROUP=OPTION ...] [SETTING=VALUE ...] [FLAGS]
       vertebra train tasks=[TASK,TASK] [TASK.data=OPTION ...] [TASK.SETTING=VALUE ...] [SETTING=VALUE ...]

Train, evaluate, save and report. The whole configuration is checked before anything is loaded or created.

options of each group:
{groups}

settings: every field of a group, as in trainer.learning_rate=3e-5, and seed. `--cfg job` shows them all.
  hydra.run.dir=DIR     the folder of the run (by default a new one under runs/)
  Values need no quotes: data.path=~/my data/训练(1).csv. A text that is null, or holds commas in a sweep, takes quotes:
  data.encoding="'null'".

flags, anywhere on the line:
  --multirun, -m        one run for each combination of comma-separated values, below runs/sweep or hydra.sweep.dir=DIR;
                        the same command goes on where it was stopped; hydra/launcher=joblib runs several at once
  --cfg, -c job         print the configuration and stop (also: hydra, all); --package trainer prints a part of it,
                        --resolve fills in what refers to other settings
  --info, -i [searchpath, defaults, defaults-tree, config, plugins]
                        print how the configuration is found and put together, and stop
  -sc install=bash      print the shell's completion (also: zsh, fish); use it as: eval "$(vertebra -sc install=bash)"

examples:
  vertebra train task={task}
  vertebra train task={task} backbone=gpt2 gpu=single trainer.epochs=3
  vertebra train task={task} --multirun seed=1,2,3 trainer.learning_rate=1e-4,3e-4
  vertebra train tasks=[{tasks}] {task}.data.limit=200 trainer.sampling=uniform"""


def main(argv: Sequence[str]) -> int:
    """Run `vertebra train` with these arguments; 0 where all went well."""
    if any(argument in ("-sc", "--shell-completion") for argument in argv):
        from vertebra.cli.completion import complete

        return complete(argv)
    host = create_host()
    arguments = parse(argv, host)
    if arguments.help:
        print(help_text(host))
    elif (arguments.cfg or arguments.info or arguments.multirun) and names_tasks(arguments.overrides):
        raise ConfigError(
            "tasks=[…] is one run: it goes with none of --cfg, --info and --multirun. Use task=TASK for them."
        )
    elif arguments.cfg or arguments.info:
        show(arguments, host)
    elif arguments.multirun:
        from vertebra.cli.sweep import sweep

        return sweep(arguments.overrides, host)
    else:
        train(arguments.overrides, host)
    return 0


def train(overrides: Sequence[str], host: Host) -> None:
    """Compose, check, and run."""
    from vertebra.config.members import compose_run

    composition = compose_run(overrides, host)
    if rank() == 0:
        print(f"Run folder: {composition.folder}", flush=True)

    from vertebra.runs.execute import train as execute

    print_run(execute(composition.config, composition.folder, host).folder, host)


def print_run(folder: Path, host: Host) -> None:
    """Print the scores of a finished run, and where its report lies; of several processes only the main one does."""
    if rank() > 0:
        return
    from vertebra.report.read import read_baselines
    from vertebra.report.scale import Scale
    from vertebra.report.scores import best_baselines, model_name, scores_of_tasks
    from vertebra.report.screen import print_scores
    from vertebra.runs.folder import RunFolder

    run = RunFolder(folder)
    metrics, intervals, state = run.read_json("metrics.json"), run.read_json("intervals.json"), run.read_state()
    notes, baselines = state["notes"], read_baselines(run)
    if len(tasks := state.get("tasks", [])) > 1:
        best = best_baselines(scores_of_tasks(run, tasks, model_name(state), host))
        baselines = {"best baseline": {"scores": best}} if best else {}
    print_scores(metrics, intervals, notes, folder, baselines=baselines, scale=Scale.of(host))


def show(arguments: Arguments, host: Host) -> None:
    """Print what was composed, or how; settings that do not exist stand in it as well."""
    from vertebra.config.compose import compose_freely, forced
    from vertebra.config.session import PRIMARY, hydra_session

    errors: list[str] = []
    with hydra_session(host) as hydra:
        compose_freely(hydra, arguments.overrides, host, errors)
        if errors:
            raise ConfigError("\n".join(errors))
        overrides = forced(hydra, arguments.overrides, errors)
        if arguments.info:
            hydra.show_info(arguments.info, PRIMARY, overrides)
        else:
            hydra.show_cfg(PRIMARY, overrides, arguments.cfg, arguments.package, arguments.resolve)


def help_text(host: Host) -> str:
    """Return the text of `vertebra train --help`."""
    from vertebra.config.options import SUITE, find_options

    tasks = host.names("task")
    groups: dict[str, Any] = {"task": tasks, **find_options(host)}
    width = max(len(group) for group in groups)
    wrap = TextWrapper(120, subsequent_indent=" " * (width + 4), break_long_words=False, break_on_hyphens=False)
    groups.pop(SUITE, None)
    lines = [f"  {group:{width}}  {', '.join(sorted(options))}" for group, options in groups.items() if options]
    return HELP.format(
        groups="\n".join(map(wrap.fill, lines)), task=tasks[0] if tasks else "TASK", tasks=",".join(tasks[:3])
    )
