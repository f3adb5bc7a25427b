"""`vertebra matrix`: which tasks, adapters, attention, packing and families of models go together, as they declare it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vertebra.cli.parser import Parser
from vertebra.config.compatibility import MODEL_FAMILIES, Combination, Refusal, refusals
from vertebra.errors import VertebraError
from vertebra.host.manager import Host, create_host

Attention = Literal["causal", "bidirectional", "by layer"]
Packing = Literal["packed", "padded"]


@dataclass(frozen=True)
class Cell:
    """A combination, and what stands against it."""

    combination: Combination
    refusals: tuple[Refusal, ...]


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
    parts = (host.names("adapter"), get_args(Attention), get_args(Packing), tasks, MODEL_FAMILIES)
    for adapter, attention, packing, task, model in product(*parts):
        combination = Combination(task, adapter, attention, packing, model)
        yield Cell(combination, tuple(refusals(combination, host)))


def as_document(cell: Cell) -> dict[str, Any]:
    """Return a cell as JSON can hold it; `refused` is the line of the run's error, or null."""
    names = cell.combination
    return {
        "task": names.task,
        "adapter": names.adapter,
        "attention": names.attention,
        "packing": names.packing,
        "model": names.model,
        "refused": cell.refusals[0].line if cell.refusals else None,
    }


def show(cells: Sequence[Cell], console: Console) -> None:
    """Print a table; tasks and adapters that differ in nothing share their rows; numbers stand for the reasons below."""
    rules = list(dict.fromkeys(refusal.rule for cell in cells for refusal in cell.refusals))
    by_task: dict[str, dict[str, dict[tuple[str, str], list[str]]]] = {}
    for cell in cells:
        names = cell.combination
        rows = by_task.setdefault(names.task, {}).setdefault(names.adapter, {})
        row = rows.setdefault((names.attention, names.packing), [])
        row.append(", ".join(str(rules.index(one.rule) + 1) for one in cell.refusals) or "yes")
    table = Table("tasks", "adapter", "attention", "packing", *MODEL_FAMILIES)
    for tasks in together(by_task):
        by_adapter = by_task[tasks[0]]
        for adapters in together(by_adapter):
            shared = Text(", ".join(tasks)), Text(", ".join(adapters))
            for names_of_row, row in by_adapter[adapters[0]].items():
                marks = [Text(mark, style="green" if mark == "yes" else "yellow") for mark in row]
                table.add_row(*shared, *names_of_row, *marks)
                shared = Text(""), Text("")
            table.add_section()
    console.print(table)
    for number, rule in enumerate(rules, start=1):
        console.print(Text(f"{number}: {rule}"))


def together(by_name: dict[str, Any]) -> list[list[str]]:
    """Return the names in groups that have the same rows."""
    groups: list[list[str]] = []
    for name, rows in by_name.items():
        same = next((group for group in groups if by_name[group[0]] == rows), None)
        if same is None:
            groups.append([name])
        else:
            same.append(name)
    return groups
