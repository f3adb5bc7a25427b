"""`vertebra matrix`: which tasks, adapters, attention, packing and families of models go together, as they declare it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vertebra.cli.parser import Parser
from vertebra.config.compatibility import MODEL_FAMILIES, Combination, Refusal, refusals, refusals_each
from vertebra.errors import VertebraError
from vertebra.host.manager import Host, create_host

Attention = Literal["causal", "bidirectional", "by layer"]
Packing = Literal["packed", "padded"]
Rows = dict[tuple[str, str], dict[str, list[str]]]
"""By attention and packing: the families of models behind each list of reasons, none for those that run."""


@dataclass(frozen=True)
class Cell:
    """A combination, and what stands against it."""

    combination: Combination
    refusals: tuple[Refusal, ...]
    each: bool
    """Whether each of several tasks can have an adapter of this kind for itself."""


def main(argv: Sequence[str]) -> int:
    """Run `vertebra matrix` with these arguments."""
    arguments = parser().parse_args(list(argv))
    host = create_host()
    tasks = [host.get("task", name).name for name in arguments.task] or host.names("task")
    if not tasks:
        raise VertebraError("There is no task: no installed plugin brings one.")
    cells = list(find_cells(host, tasks))
    if arguments.json:
        print(json.dumps([as_document(cell) for cell in cells], indent=2))
    else:
        show(cells, Console(highlight=False))
    return 0


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="vertebra matrix",
        description="Show which tasks, adapters, attention, packing and families of models go together. What does not is "
        "refused when a run is composed. Families that are not listed are tried when a model is loaded.",
        epilog="Example: vertebra matrix --task ner --json",
    )
    parser.add_argument("--task", action="append", default=[], help="only this task; may be repeated")
    parser.add_argument("--json", action="store_true", help="print every combination as JSON")
    return parser


def find_cells(host: Host, tasks: Sequence[str]) -> Iterator[Cell]:
    """Yield every combination of the declared things."""
    each = {name: not list(refusals_each(name, host)) for name in host.names("adapter")}
    parts = (host.names("adapter"), get_args(Attention), get_args(Packing), tasks, MODEL_FAMILIES)
    for adapter, attention, packing, task, model in product(*parts):
        combination = Combination(task, adapter, attention, packing, model)
        yield Cell(combination, tuple(refusals(combination, host)), each[adapter])


def as_document(cell: Cell) -> dict[str, Any]:
    """Return a cell as JSON can hold it; `refused` is the line of the run's error, or null, `each` as in `Cell`."""
    names = cell.combination
    return {
        "task": names.task,
        "adapter": names.adapter,
        "attention": names.attention,
        "packing": names.packing,
        "model": names.model,
        "each": cell.each,
        "refused": cell.refusals[0].line if cell.refusals else None,
    }


def show(cells: Sequence[Cell], console: Console) -> None:
    """Print a table for all tasks that differ in nothing; numbers stand for the reasons below."""
    rules = list(dict.fromkeys(refusal.rule for cell in cells for refusal in cell.refusals))
    by_task: dict[str, dict[str, Rows]] = {}
    for cell in cells:
        names = cell.combination
        row = by_task.setdefault(names.task, {}).setdefault(names.adapter, {})
        reasons = ", ".join(str(rules.index(one.rule) + 1) for one in cell.refusals)
        row.setdefault((names.attention, names.packing), {}).setdefault(reasons, []).append(str(names.model))
    for tasks in together(by_task):
        by_adapter = by_task[tasks[0]]
        table = Table(
            "adapter", "attention", "packing", "runs with", "refused (why)", box=box.SIMPLE_HEAD, pad_edge=False
        )
        for adapters in together(by_adapter):
            for settings, models in by_adapter[adapters[0]].items():
                refused = "; ".join(f"{families(some)} ({why})" for why, some in models.items() if why)
                runs = Text(families(models.get("", [])), style="green")
                table.add_row(", ".join(adapters), *settings, runs, Text(refused))
        console.print(Text(", ".join(tasks), style="bold"))
        console.print(table)
    console.print(Text(f"all: {', '.join(MODEL_FAMILIES)}"))
    each = dict.fromkeys(cell.combination.adapter for cell in cells if cell.each)
    console.print(Text(f"one for each of several tasks (trainer.adapters=each): {', '.join(each) or 'none'}"))
    for number, rule in enumerate(rules, start=1):
        console.print(Text(f"{number}: {rule}"))


def families(some: Sequence[str]) -> str:
    """Return the names of families of models in few words."""
    return "all" if len(some) == len(MODEL_FAMILIES) else " ".join(some)


def together(found: dict[str, Any]) -> list[list[str]]:
    """Return the names in groups that have the same behind them."""
    groups: list[list[str]] = []
    for name, behind in found.items():
        same = next((group for group in groups if found[group[0]] == behind), None)
        if same is None:
            groups.append([name])
        else:
            same.append(name)
    return groups
