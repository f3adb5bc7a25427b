"""`vertebra forgetting`: what a task lost when its backbone went on to learn another one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from vertebra.cli.parser import Parser


def main(argv: Sequence[str]) -> int:
    """Run `vertebra forgetting` with these arguments."""
    parser = Parser(
        "vertebra forgetting",
        description="Score the task of a run, with its own head, on its own backbone and on what a later run made of it.",
        epilog="Example: vertebra forgetting runs/first runs/second",
    )
    parser.add_argument("before", metavar="BEFORE", help="the folder of the run whose task may be forgotten")
    parser.add_argument("after", metavar="AFTER", help="the folder of the run that went on with its backbone")
    parser.add_argument("--split", choices=["valid", "test"], default="test")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(list(argv))

    from vertebra.host.manager import create_host
    from vertebra.report.scale import Scale
    from vertebra.runs.folder import RunFolder
    from vertebra.runs.forgetting import forgetting

    host = create_host()
    changes = forgetting(arguments.before, arguments.after, host, split=arguments.split, device=arguments.device)
    document = {
        "before": str(RunFolder.open(arguments.before).path.resolve()),
        "split": arguments.split,
        "metrics": [asdict(one) for one in changes],
    }
    RunFolder.open(arguments.after).write_json("forgetting.json", document)
    if arguments.json:
        print(json.dumps(document, indent=2))
        return 0
    scale = Scale.of(host)
    width = max(len(one.metric) for one in changes)
    print(f"{arguments.split:{width}}  {'before':>9}  {'after':>9}  {'change':>9}  95 %")
    for one in changes:
        low, high = (scale.score(one.metric, bound) for bound in one.interval)
        numbers = (scale.score(one.metric, number) for number in (*one.scores, one.difference))
        print(f"{one.metric:{width}}  {'  '.join(f'{number:>9}' for number in numbers)}  {low} to {high}")
    return 0
