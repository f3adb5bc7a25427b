"""The short table at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vertebra.report.numbers import percent, span

Scores = Mapping[str, Mapping[str, float]]
Intervals = Mapping[str, Mapping[str, Sequence[float]]]


def print_scores(
    metrics: Scores, intervals: Intervals, notes: Sequence[str], folder: Path, console: Console | None = None
) -> None:
    """Print the scores of each split in percent with their 95 % intervals, the notes, and where the report lies.

    `metrics` and `intervals` are as in `metrics.json` and `intervals.json`. Plain text where the output is no terminal.
    """
    console = console or Console(highlight=False)
    console.print()
    console.print(scores_table(metrics, intervals) if any(metrics.values()) else Text("No scores."))
    console.print()
    for note in notes:
        console.print(Text.assemble(("Note: ", "bold yellow"), note))
    report = folder / "report.html"
    console.print(Text(f"Report: {report}" if report.exists() else f"Run folder: {folder}"), soft_wrap=True)


def scores_table(metrics: Scores, intervals: Intervals) -> Table:
    """Return the table: a row for each metric, a column for each split, test first."""
    splits = sorted((split for split, scores in metrics.items() if scores), key=lambda split: (split != "test", split))
    names = dict.fromkeys(name for split in splits for name in metrics[split])
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="not bold dim")
    table.add_column("percent", overflow="fold")
    for split in splits:
        table.add_column(split, justify="right")
    for row, name in enumerate(names):
        cells = [_cell(metrics[split].get(name), intervals.get(split, {}).get(name)) for split in splits]
        table.add_row(Text(name), *cells, style="bold" if row == 0 else None)
    return table


def _cell(score: float | None, interval: Sequence[float] | None) -> Text:
    if score is None:
        return Text("-")
    shown = Text(percent(score))
    return shown.append(f"  {span(interval)}", style="not bold dim") if interval else shown
