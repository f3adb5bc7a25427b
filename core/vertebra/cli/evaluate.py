"""`vertebra evaluate`: the scores of a trained run, on its own data or on other data."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.cli.parser import Parser
from vertebra.cli.settings import OF_SET, read_settings
from vertebra.data.files import require_file, require_place
from vertebra.errors import DataError, RunError

if TYPE_CHECKING:
    from vertebra.config.schema import DataConfig
    from vertebra.data.load import Splits
    from vertebra.host.manager import Host
    from vertebra.metrics.metric import Metric
    from vertebra.runs.baselines import Computed
    from vertebra.runs.load import LoadedRun
    from vertebra.tasks.task import Row


def main(argv: Sequence[str]) -> int:
    """Run `vertebra evaluate` with these arguments."""
    parser = Parser(
        "vertebra evaluate", description="Evaluate a trained run on the data that it was made with, or on other data."
    )
    parser.add_argument("run", metavar="RUN_DIR", help="the folder of the run")
    parser.add_argument("--task", help="which one, of a run of several tasks")
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", default=[], help=OF_SET)
    parser.add_argument("--split", action="append", choices=["valid", "test"], help="by default both")
    parser.add_argument("--data", metavar="PATH", help="the same data at another place, or other data in the same form")
    parser.add_argument("--file", metavar="FILE", type=Path, help="one file of labelled rows, evaluated whole as test")
    parser.add_argument("--output", type=Path, help="a folder for metrics.json, predictions.jsonl and the rest")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = parser.parse_args(list(argv))
    if arguments.file is not None:
        require_file(arguments.file)
    if arguments.output is not None:
        refuse_output(arguments.output, arguments.run)

    from vertebra.config.document import to_document
    from vertebra.data.splits import TRAIN
    from vertebra.engine.evaluate import evaluate
    from vertebra.host.manager import create_host
    from vertebra.report.read import read_baselines, read_json
    from vertebra.report.scale import Scale
    from vertebra.report.screen import print_scores
    from vertebra.runs.data_notes import data_notes
    from vertebra.runs.environment import describe_environment
    from vertebra.runs.folder import RunFolder
    from vertebra.runs.load import load
    from vertebra.runs.results import intervals, write_results
    from vertebra.runs.tasks import load_metrics

    host = create_host()
    settings = read_settings(arguments.set)
    run = load(arguments.run, task=arguments.task, settings=settings, device=arguments.device, host=host)
    metrics = load_metrics(run.task, host, run.config.trainer.more_metrics)
    data, wanted = _data(run, arguments, host)
    found, encoded = run.read(data, host)
    splits = {name: found.rows[split] for split, name in wanted.items() if split in found.rows}
    if not splits:
        raise DataError(f"The data has no split {' or '.join(wanted)}; it has {', '.join(found.rows)}.")
    features = {name: encoded(split) for split, name in wanted.items() if split in found.rows}
    evaluations = [
        evaluate(run.model, run.task, name, rows, features[name].features, metrics, run.devices)
        for name, rows in splits.items()
    ]
    about = read_json(run.folder, "data.json")
    own = about.get("fingerprint") == found.fingerprint
    notes, baselines = run.folder.read_state()["notes"], read_baselines(run.folder)
    if settings or not own:  # baselines may be scored by a setting of the task
        fitted, gone = _training_data(run, host, own=own)
        computed = _baselines(run, metrics, fitted, splits, own=own)
        baselines = computed.document()
        if not own:
            training = {TRAIN: fitted.rows[TRAIN]} if fitted is not None else {}
            notes = [note for note in notes if note not in about.get("notes", ())]
            notes += data_notes(run.task, found.notes, {**training, **splits}, features)
        changed = [f"task.{name}={value}" for name, value in settings.items()]
        notes = list(dict.fromkeys([*notes, *changed, *gone, *computed.notes]))
    folder = run.folder if own and not settings else None  # whose report has other scores
    if arguments.output is not None:
        folder = RunFolder(arguments.output)
        folder.path.mkdir(parents=True, exist_ok=True)
        write_results(folder, run.task, metrics, splits, evaluations)
        folder.write_config(to_document(run.config))
        folder.write_json("baselines.json", baselines)
        folder.write_json("environment.json", describe_environment())
    print_scores(
        {one.split: one.scores for one in evaluations},
        {one.split: intervals(metrics, one) for one in evaluations},
        notes,
        folder.path if folder is not None else None,
        baselines=baselines,
        scale=Scale.of(host),
    )
    return 0


def refuse_output(output: Path, run: str) -> None:
    """Raise `RunError` where the results cannot be written, or would be among those of a run."""
    if (output / "run.json").is_file():
        own = "the run's own folder" if output.resolve() == Path(run).resolve() else "the folder of another run"
        raise RunError(f"--output={output} is {own}; choose another one.")
    require_place(output, folder=True)


def _training_data(run: LoadedRun, host: Host, *, own: bool) -> tuple[Splits | None, list[str]]:
    """Return the data that the run was made with, or why they cannot be read any more.

    They are not read for a corpus, and for other rows than the run's `own` of a task that has tables, which would then know
    the run's tables again.
    """
    from vertebra.data.load import load_splits
    from vertebra.tasks.corpus_task import CorpusTask

    if isinstance(run.task, CorpusTask) or (run.task.tables and not own):
        return None, []
    try:
        return load_splits(run.config.tasks[0].data, run.task, host), []
    except DataError as error:  # the data may have moved since
        return None, [f"fitting baselines failed: {error}"] if run.config.trainer.baselines else []


def _baselines(
    run: LoadedRun,
    metrics: Sequence[Metric],
    fitted: Splits | None,
    splits: Mapping[str, Sequence[Row]],
    *,
    own: bool,
) -> Computed:
    """Score the task's baselines on these rows, fitted on the run's own; there are none for a run that was made without."""
    from vertebra.runs.baselines import Computed, compute, compute_elsewhere

    if fitted is None or not run.config.trainer.baselines:
        return Computed()
    cache = run.config.tasks[0].data.cache
    if own:
        return compute(run.task, metrics, fitted, cache=cache)
    return compute_elsewhere(run.task, metrics, fitted, splits, cache=cache)


def _data(run: LoadedRun, arguments: argparse.Namespace, host: Host) -> tuple[DataConfig, dict[str, str]]:
    """Return where the rows to evaluate are, and which of their splits are evaluated under which name."""
    from dataclasses import replace

    data: DataConfig = run.config.tasks[0].data
    other = arguments.file or arguments.data
    if other is not None:
        # A reader that makes its own rows, or asks the Hub, does not read files.
        reads_files = data.format == "auto" or getattr(host.get("reader", data.format), "reads_path", True)
        form = data.format if reads_files and data.format != "hub" else "auto"
        data = replace(data, path=str(other), format=form, splits={}, limit=None)
    if arguments.file is not None:  # a single file is read as the training split
        return replace(data, valid_fraction=0.0, test_fraction=0.0), {"train": "test"}
    return data, {split: split for split in arguments.split or ["valid", "test"]}
