"""`vertebra baseline`: what a task's model must beat, scored without any backbone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.cli.parser import Parser
from vertebra.data.files import require_place
from vertebra.errors import ConfigError, PluginError, RunError
from vertebra.host.manager import Host, create_host

if TYPE_CHECKING:
    from vertebra.config.schema import RunConfig


def main(argv: Sequence[str]) -> int:
    """Run `vertebra baseline` with these arguments; 1 where a baseline failed."""
    arguments = parser().parse_intermixed_args(list(argv))
    if arguments.json is not None:
        require_place(arguments.json, folder=False)
    host = create_host()

    from vertebra.cli.arguments import quoted
    from vertebra.config.compose import compose

    config = compose(quoted(arguments.overrides, host), host).config
    return score(config, host, arguments.split or ["test", "valid"], arguments.json)


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="vertebra baseline",
        description="Score the baselines of a task on its data: what can be had without a backbone, in seconds.",
        epilog="Example: vertebra baseline task=ner data=ner/conll2003 data.path=my/folder",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="the same settings as for `vertebra train`")
    parser.add_argument("--split", action="append", choices=["valid", "test"], help="by default both")
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep the numbers of both splits in a file")
    return parser


def score(config: RunConfig, host: Host, splits: Sequence[str], file: Path | None) -> int:
    """Load the data, compute, print; return the exit code."""
    from vertebra.data.load import load_splits
    from vertebra.report.scale import Scale
    from vertebra.report.screen import print_baselines
    from vertebra.runs.baselines import compute
    from vertebra.runs.tasks import load_metrics, load_task
    from vertebra.tasks.corpus_task import CorpusTask

    (choice,) = config.tasks
    task = load_task(choice, host)
    if isinstance(task, CorpusTask):
        raise ConfigError(
            f"The baselines of task '{task.name}' count the tokens of a backbone: they are computed by `vertebra train`."
        )
    data = load_splits(choice.data, task, host)
    if not any(split in data.rows for split in splits):
        raise RunError(f"The data has no split {' or '.join(splits)}; it has {', '.join(data.rows)}.")
    task.fit(data.rows["train"])
    computed = compute(task, load_metrics(task, host, config.trainer.more_metrics), data, cache=choice.data.cache)
    if not computed.scores and not computed.errors:
        print(f"Task '{task.name}' names no baselines.")
        return 0
    if not computed.scores:
        raise PluginError("; ".join(computed.notes))
    notes = [*data.notes, *computed.notes]
    document = computed.document()
    if file is not None:
        write(file, {"task": task.name, "data": data.fingerprint, "notes": notes, "baselines": document})
    print_baselines(document, splits, notes, scale=Scale.of(host))
    return 1 if computed.errors else 0


def write(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file."""
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
