"""The short tables on the screen: the scores of a run beside its baselines, and baselines alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vertebra.report.scale import Scale

PERCENT = Scale()
Scores = Mapping[str, Mapping[str, float]]
Intervals = Mapping[str, Mapping[str, Sequence[float]]]
Column = tuple[Scores, Intervals]
Baselines = Mapping[str, Mapping[str, Any]]
"""As in `baselines.json`: by name what each one scores."""


def print_scores(
    metrics: Scores,
    intervals: Intervals,
    notes: Sequence[str],
    folder: Path | None,
    console: Console | None = None,
    baselines: Baselines | None = None,
    scale: Scale = PERCENT,
) -> None:
    """Print the scores of each split in percent with their 95 % intervals, the notes, and where the report lies, if anywhere.

    `metrics` and `intervals` are as in `metrics.json` and `intervals.json`. Plain text where the output is no terminal.
    """
    console = console or Console(highlight=False)
    console.print()
    console.print(
        scores_table(metrics, intervals, baselines or {}, console, scale)
        if any(metrics.values())
        else Text("No scores.")
    )
    console.print()
    print_notes(notes, console)
    if folder is None:
        return
    report = folder / "report.html"
    console.print(Text(f"Report: {report}" if report.exists() else f"Run folder: {folder}"), soft_wrap=True)


def print_baselines(
    baselines: Baselines,
    splits: Sequence[str],
    notes: Sequence[str],
    console: Console | None = None,
    scale: Scale = PERCENT,
) -> None:
    """Print what baselines score on some splits, how each one predicts, and the notes."""
    console = console or Console(highlight=False)
    console.print()
    console.print(baselines_table(baselines, splits, console, scale))
    console.print()
    for name, one in baselines.items():
        console.print(Text.assemble((name, "bold"), f": {one['summary']}"))
    console.print()
    print_notes(notes, console)


def print_notes(notes: Iterable[str], console: Console) -> None:
    """Print each note on a line of its own."""
    for note in notes:
        console.print(Text.assemble(("Note: ", "bold yellow"), note))


def print_whole(table: Table, console: Console) -> None:
    """Print a table with nothing cut or folded: a narrow terminal wraps its lines, and a file has them as they are."""
    before = console.width
    console.width = max(before, console.measure(table, options=console.options.update(max_width=10_000)).maximum)
    try:
        console.print(table)
    finally:
        console.width = before


def scores_table(
    metrics: Scores, intervals: Intervals, baselines: Baselines, console: Console, scale: Scale = PERCENT
) -> Table:
    """Return the table of a run: the baselines, and the model with its intervals."""
    columns: dict[str, Column] = {name: (_only(one["scores"], metrics), {}) for name, one in baselines.items()}
    return fitting({**columns, "model": (metrics, intervals)}, console, scale)


def baselines_table(baselines: Baselines, splits: Sequence[str], console: Console, scale: Scale = PERCENT) -> Table:
    """Return the table of baselines alone, with their intervals and the seconds that they took."""
    columns = {name: (_only(one["scores"], splits), _only(one["intervals"], splits)) for name, one in baselines.items()}
    table = fitting(columns, console, scale)
    table.add_row()
    table.add_row(Text("seconds"), *(Text(f"{one['seconds']:.1f}") for one in baselines.values()))
    return table


def fitting(columns: Mapping[str, Column], console: Console, scale: Scale) -> Table:
    """Return the comparison in the fullest form that fits: names over several lines, then no intervals."""
    stacked = {name.replace(" ", "\n"): column for name, column in columns.items()}
    bare: dict[str, Column] = {name: (scores, {}) for name, (scores, _) in stacked.items()}
    tables = [comparison(form, scale) for form in (columns, stacked, bare)]
    endless = console.options.update(max_width=10_000)
    return next(
        (table for table in tables if console.measure(table, options=endless).maximum <= console.width), tables[-1]
    )


def comparison(columns: Mapping[str, Column], scale: Scale) -> Table:
    """Return a table with a column for each predictor, and a row for each metric of each split, test first."""
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, header_style="not bold dim"
    )
    table.add_column("percent", overflow="fold")
    for name in columns:
        table.add_column(Text(name), justify="right")
    splits = {split for scores, _ in columns.values() for split in scores if scores[split]}
    for split in sorted(splits, key=lambda split: (split != "test", split)):
        if table.row_count:
            table.add_row()
        table.add_row(Text(split, style="cyan"))
        # The last predictor is the model, whose order counts: the mean over several tasks, which no baseline has, is first.
        names = dict.fromkeys(name for scores, _ in reversed([*columns.values()]) for name in scores.get(split, {}))
        for number, name in enumerate(names):
            cells = [
                _cell(scale, name, scores.get(split, {}).get(name), intervals.get(split, {}).get(name))
                for scores, intervals in columns.values()
            ]
            table.add_row(Text(f"  {scale.named(name)}"), *cells, style="bold" if number == 0 else None)
    if note := scale.note([name for scores, _ in columns.values() for some in scores.values() for name in some]):
        table.add_row()
        table.add_row(Text(note, style="dim"))
    return table


def _only(by_split: Mapping[str, Any], splits: Iterable[str]) -> dict[str, Any]:
    return {split: by_split[split] for split in splits if split in by_split}


def _cell(scale: Scale, metric: str, score: float | None, interval: Sequence[float] | None) -> Text:
    if score is None:
        return Text("-")
    shown = Text(scale.score(metric, score))
    return shown.append(f"  {scale.span(metric, interval)}", style="not bold dim") if interval else shown
