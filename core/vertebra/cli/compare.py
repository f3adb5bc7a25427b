"""`vertebra compare`: two finished runs on the same rows; is the difference real, and where is it?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vertebra.cli.parser import Parser


def main(argv: Sequence[str]) -> int:
    """Run `vertebra compare` with these arguments."""
    parser = Parser(
        "vertebra compare",
        description="Compare two finished runs that were evaluated on the same rows: the difference of each score with its "
        "95 % interval and p-value, the rows won and lost, the labels that changed.",
        epilog="example: vertebra compare runs/ner/a runs/ner/b --examples 10; "
        "vertebra compare runs/ner/a --predictions other-tool.jsonl",
    )
    parser.add_argument("first", metavar="RUN_A", type=Path, help="the folder of a run")
    parser.add_argument("second", metavar="RUN_B", type=Path, nargs="?", help="the run that is compared with it")
    parser.add_argument(
        "--predictions",
        metavar="FILE",
        type=Path,
        help='in place of RUN_B another tool\'s predictions: a line {"id": …, "prediction": …} for each row',
    )
    parser.add_argument("--split", choices=["test", "valid"], default="test", help="by default test")
    parser.add_argument("--examples", metavar="N", type=int, default=5, help="rows won and lost to show (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(list(argv))
    if (arguments.second is None) == (arguments.predictions is None):
        parser.error("give either a second run, RUN_B, or --predictions FILE")
    if arguments.examples < 0:
        parser.error("--examples cannot be negative")

    from vertebra.host.manager import create_host
    from vertebra.report.comparison import print_comparison
    from vertebra.report.scale import Scale
    from vertebra.runs.compare import compare_runs

    host = create_host()
    comparison = compare_runs(
        arguments.first,
        arguments.second or arguments.predictions,
        host,
        split=arguments.split,
        is_file=arguments.second is None,
        examples=arguments.examples,
    )
    if arguments.json:
        print(json.dumps(comparison.document(), indent=1, ensure_ascii=False))
    else:
        print_comparison(comparison, Scale.of(host))
    return 0
