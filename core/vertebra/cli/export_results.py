"""`vertebra export-results`: runs and what they reached, as JSON that other programs can rely on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from vertebra.cli.parser import Parser
from vertebra.data.files import require_place


def main(argv: Sequence[str]) -> int:
    """Run `vertebra export-results` with these arguments."""
    parser = Parser(
        "vertebra export-results",
        description="Write finished runs as JSON: settings, data, scores with intervals, baselines, costs, environment. "
        "The form has a version and a JSON Schema.",
        epilog="example: vertebra export-results runs --output results.json",
    )
    parser.add_argument("folders", metavar="FOLDER", nargs="*", type=Path, help="runs, or folders of runs")
    parser.add_argument("--output", metavar="FILE", type=Path, help="by default standard output")
    parser.add_argument("--schema", action="store_true", help="write the JSON Schema in place of results")
    arguments = parser.parse_args(list(argv))
    if bool(arguments.folders) == arguments.schema:
        parser.error("give folders of runs, or --schema alone")
    if arguments.output is not None:
        require_place(arguments.output)

    from vertebra.host.manager import create_host
    from vertebra.runs.collect import finished_runs
    from vertebra.runs.exported import as_json, export, shipped_schema
    from vertebra.runs.folder import RunFolder

    if arguments.schema:
        text, what = shipped_schema(), "The schema"
    else:
        runs = finished_runs(arguments.folders)
        text, what = as_json(export(runs, create_host())), f"{len(runs)} runs"
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        RunFolder(arguments.output.parent).write_text(arguments.output.name, text)
        print(f"{what}: {arguments.output}")
    return 0
