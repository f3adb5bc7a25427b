"""`vertebra predict`: predictions of trained runs or bundles, for texts or for a file of any size."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vertebra.cli.parser import Parser
from vertebra.cli.settings import OF_SET, read_settings
from vertebra.config.paths import check_encoding
from vertebra.data.files import require_file, require_place
from vertebra.errors import DataError, RunError

if TYPE_CHECKING:
    from vertebra.runs.load import LoadedRun
    from vertebra.runs.loaded_tasks import LoadedTasks


def main(argv: Sequence[str]) -> int:
    """Run `vertebra predict` with these arguments; each prediction is one line of JSON."""
    parser = Parser(
        "vertebra predict",
        description="Predict with a trained run or bundle. Each prediction is one line of JSON. Several of them share one "
        "backbone: a text is then for each task, and a row of a file names its own in a column 'task'.",
        epilog="example: vertebra predict runs/ner/2026-11-22_10-00-00 --text 'Angela Merkel visited Paris.'",
    )
    parser.add_argument("runs", metavar="RUN_DIR", nargs="+", help="the folder of a run or of a bundle")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", action="append", help="a text; may be given several times")
    source.add_argument("--file", type=Path, help="jsonl, csv, tsv or txt (one text a line), also .gz and .xz")
    parser.add_argument("--encoding", default="utf-8", help="the encoding of --file (default: %(default)s)")
    parser.add_argument("--task", help="which one, of a run of several tasks")
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", default=[], help=OF_SET)
    parser.add_argument("--output", type=Path, help="a file to write to, by default standard output")
    parser.add_argument("--backbone", metavar="PLACE", help="the backbone's folder or Hub name, where it has moved")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = parser.parse_args(list(argv))
    check_encoding(arguments.encoding)
    if arguments.file is not None:
        require_file(arguments.file)
    if any(not text.strip() for text in arguments.text or ()):
        raise DataError("--text is empty: there is nothing to predict on.")
    if arguments.output is not None:
        require_place(arguments.output)

    from vertebra.runs.load import load

    place = {"device": arguments.device, "backbone": arguments.backbone}
    if len(arguments.runs) > 1 and arguments.task is not None:
        raise RunError("--task names one of a run of several tasks: give that run alone, or each task's folder in it.")
    if len(arguments.runs) > 1 and arguments.set:
        raise RunError("--set changes a setting of one task: give its run alone.")
    settings = read_settings(arguments.set)
    lines = (
        _lines(load(arguments.runs[0], task=arguments.task, settings=settings, **place), arguments)
        if len(arguments.runs) == 1
        else _mixed(load(arguments.runs, **place), arguments)
    )
    if arguments.output is None:
        _write(lines, arguments, sys.stdout)
        return 0
    aside = arguments.output.with_name(f".{arguments.output.name}.part")
    try:
        with aside.open("w", encoding="utf-8") as out:
            number = _write(lines, arguments, out)
        aside.replace(arguments.output)
    except OSError as error:
        raise RunError(f"Cannot write '{arguments.output}': {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            aside.unlink()
    print(f"{number} predictions: {arguments.output}")
    return 0


def _lines(run: LoadedRun, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from vertebra.data.inputs import iterate_file

    data = run.config.tasks[0].data
    inputs = arguments.text or iterate_file(arguments.file, data, run.task, arguments.encoding)
    for row, prediction in run.stream(inputs):
        yield {"id": row["id"], "prediction": prediction}


def _mixed(tasks: LoadedTasks, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from vertebra.data.inputs import iterate_mixed_file

    known = {name: (run.config.tasks[0].data, run.task) for name, run in tasks.runs.items()}
    texts = [(name, text) for text in arguments.text or () for name in known]
    for name, row, prediction in tasks.stream(texts or iterate_mixed_file(arguments.file, known, arguments.encoding)):
        yield {"id": row["id"], "task": name, "prediction": prediction}


def _write(lines: Iterable[dict[str, Any]], arguments: argparse.Namespace, out: TextIO) -> int:
    written = 0
    for line in lines:
        print(json.dumps(line, ensure_ascii=False), file=out)
        written += 1
    if not written:
        raise DataError(f"'{arguments.file}' has no rows.")
    return written
