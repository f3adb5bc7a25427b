"""`vertebra cache`: what Vertebra keeps on disk to be faster the next time, and how to be rid of it."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from vertebra.cli.parser import Parser
from vertebra.data.entries import cache_root
from vertebra.data.kept import Kept, chosen, list_kept, remove
from vertebra.errors import RunError, VertebraError
from vertebra.names import unknown
from vertebra.report.numbers import size


def main(argv: Sequence[str]) -> int:
    """Run `vertebra cache` with these arguments; 1 where an entry could not be removed."""
    arguments = parser().parse_args(list(argv))
    entries = list_kept()
    if arguments.action == "clean":
        return clean(entries, arguments)
    if arguments.json:
        print(json.dumps(as_document(entries), indent=2))
    else:
        show(entries, Console(highlight=False))
    return 0


def parser() -> Parser:
    """Return the parser of the command line."""
    top = Parser(
        prog="vertebra cache",
        description="List what Vertebra keeps on disk to be faster the next time: all of it can be made anew.",
        epilog="Example: vertebra cache clean --older-than 30. The caches are in $VERTEBRA_CACHE, else ~/.cache/vertebra.",
    )
    top.add_argument("--json", action="store_true", help="print every entry as JSON")
    clean = top.add_subparsers(dest="action", metavar="clean").add_parser(
        "clean", prog="vertebra cache clean", help="remove entries; runs that use them meanwhile are not harmed"
    )
    clean.add_argument("--older-than", type=days, default=0.0, metavar="DAYS", help="only those made longer ago")
    clean.add_argument("--kind", action="append", default=[], help="only those of a kind, as the list names it")
    clean.add_argument("--yes", action="store_true", help="do not ask")
    return top


def days(text: str) -> float:
    """Return a number of days, 0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not number >= 0:
        raise ArgumentTypeError(f"'{text}' is no number of days")
    return number


def clean(entries: Sequence[Kept], arguments: Namespace) -> int:
    """Remove what is chosen, after asking; 1 where something could not be removed."""
    kinds = {one.kind for one in entries}
    for kind in arguments.kind:
        if kind not in kinds:
            raise VertebraError(unknown("kind of cache entries", kind, kinds))
    going = chosen(entries, arguments.kind, arguments.older_than)
    if not going:
        print("There is nothing to remove.")
        return 0
    what = f"{counted(going)} in '{cache_root()}'"
    if not arguments.yes and not agreed(what):
        print("Nothing was removed.")
        return 0
    failures = [failure for one in going if (failure := failed(one))]
    for failure in failures:
        print(f"vertebra: {failure}", file=sys.stderr)
    print(f"Removed {counted([one for one in going if not one.path.exists()])}.")
    return 1 if failures else 0


def agreed(what: str) -> bool:
    """Ask whether to go on; `RunError` where nobody can be asked."""
    if not sys.stdin.isatty():
        raise RunError(f"cache clean would remove {what}; to do so without being asked, add --yes.")
    return input(f"Remove {what}? [y/N] ").strip().lower() in ("y", "yes")


def failed(entry: Kept) -> str | None:
    """Remove an entry; return one line where that fails."""
    try:
        remove(entry)
    except OSError as error:
        return f"'{entry.path}' stays: {error.strerror or error}."
    return None


def as_document(entries: Sequence[Kept]) -> dict[str, Any]:
    """Return the entries as JSON can hold them."""
    return {
        "folder": str(cache_root()),
        "bytes": sum(one.size for one in entries),
        "entries": [
            {
                "kind": one.kind,
                "key": one.path.name,
                "bytes": one.size,
                "made": datetime.fromtimestamp(one.written, UTC).isoformat(timespec="seconds"),
            }
            for one in entries
        ],
    }


def show(entries: Sequence[Kept], console: Console) -> None:
    """Print a line for each kind."""
    print(f"Folder: {cache_root()}")
    if not entries:
        print("It holds nothing.")
        return
    table = Table("kind", "entries", "size", "made")
    for column in table.columns[1:3]:
        column.justify = "right"
    for kind, group in groupby(entries, key=lambda one: one.kind):
        some = list(group)
        oldest, newest = in_days(some[0].age()), in_days(some[-1].age())
        made = oldest if oldest == newest else f"{oldest} to {newest}"
        table.add_row(kind, str(len(some)), size(sum(one.size for one in some)), made)
    console.print(table)
    print(f"{counted(entries)}. `vertebra cache clean` removes them, all or some.")


def counted(entries: Sequence[Kept]) -> str:
    """Return how many entries there are, and their size."""
    return f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'} ({size(sum(one.size for one in entries))})"


def in_days(age: float) -> str:
    """Return an age in days as people say it."""
    return "today" if age < 1 else "1 day ago" if age < 2 else f"{int(age)} days ago"
