"""`vertebra predict`: predictions of a trained run, for texts or for a file of any size."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from vertebra.cli.parser import Parser
from vertebra.data.files import require_file, require_place
from vertebra.errors import DataError, RunError


def main(argv: Sequence[str]) -> int:
    """Run `vertebra predict` with these arguments; each prediction is one line of JSON."""
    parser = Parser(
        "vertebra predict",
        description="Predict with a trained run. Each prediction is one line of JSON.",
        epilog="example: vertebra predict runs/ner/2026-11-22_10-00-00 --text 'Angela Merkel visited Paris.'",
    )
    parser.add_argument("run", metavar="RUN_DIR", help="the folder of the run")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", action="append", help="a text; may be given several times")
    source.add_argument("--file", type=Path, help="jsonl, csv, tsv or txt (one text a line), also .gz and .xz")
    parser.add_argument("--task", help="which one, of a run of several tasks")
    parser.add_argument("--output", type=Path, help="a file to write to, by default standard output")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = parser.parse_args(list(argv))
    if arguments.file is not None:
        require_file(arguments.file)
    if any(not text.strip() for text in arguments.text or ()):
        raise DataError("--text is empty: there is nothing to predict on.")
    if arguments.output is not None:
        require_place(arguments.output)

    from vertebra.runs.load import load

    run = load(arguments.run, task=arguments.task, device=arguments.device)
    if arguments.output is None:
        _write(run, arguments, sys.stdout)
        return 0
    aside = arguments.output.with_name(f".{arguments.output.name}.part")
    try:
        with aside.open("w", encoding="utf-8") as out:
            number = _write(run, arguments, out)
        aside.replace(arguments.output)
    except OSError as error:
        raise RunError(f"Cannot write '{arguments.output}': {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            aside.unlink()
    print(f"{number} predictions: {arguments.output}")
    return 0


def _write(run: object, arguments: argparse.Namespace, out: TextIO) -> int:
    from vertebra.data.load import iterate_file
    from vertebra.runs.load import LoadedRun

    assert isinstance(run, LoadedRun)
    data = run.config.tasks[0].data
    inputs = arguments.text or iterate_file(arguments.file, data, run.task)
    written = 0
    for row, prediction in run.stream(inputs):
        print(json.dumps({"id": row["id"], "prediction": prediction}, ensure_ascii=False), file=out)
        written += 1
    if not written:
        raise DataError(f"'{arguments.file}' has no rows.")
    return written
