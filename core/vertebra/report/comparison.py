"""Two systems on the screen, beside each other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vertebra.report.numbers import count, percent
from vertebra.report.scale import Scale
from vertebra.report.screen import print_notes

if TYPE_CHECKING:
    from vertebra.runs.compare import Comparison, MetricChange, RowChange

MOST_LABELS = 12
MOST_TEXT = 400
"""Letters of an input that are shown."""


def print_comparison(comparison: Comparison, scale: Scale, console: Console | None = None) -> None:
    """Print scores with their difference, labels that changed, and rows won and lost."""
    console = console or Console(highlight=False)
    first, second = comparison.names
    console.print()
    console.print(Text.assemble(("A  ", "bold"), first), soft_wrap=True)
    console.print(Text.assemble(("B  ", "bold"), second), soft_wrap=True)
    console.print(f"{count(comparison.rows)} rows of {comparison.split}, task {comparison.task}", end="\n\n")
    console.print(metrics_table(comparison, scale))
    primary = comparison.metrics[0].metric
    console.print(
        f"\nBy {primary} row by row, B is better on {count(comparison.won)} rows and worse on {count(comparison.lost)}, "
        f"and {count(comparison.rows - comparison.won - comparison.lost)} are equal.",
        end="\n\n",
    )
    if comparison.labels:
        console.print(labels_table(comparison), end="\n\n")
    for row in comparison.striking:
        print_row(row, console)
    print_notes(comparison.notes, console)


def metrics_table(comparison: Comparison, scale: Scale) -> Table:
    """Return a line for each metric; the difference is marked good or bad where its p-value is below 0.05."""
    table = _table("percent", "A", "B", "B − A", "95 % interval", "p")
    for one in comparison.metrics:
        first, second = (scale.score(one.metric, score) for score in one.scores)
        table.add_row(
            scale.named(one.metric),
            first,
            second,
            Text(signed(one.metric, one.difference, scale), style=_style(one)),
            signed_span(one, scale),
            f"{p_value(one.p_value)} {one.test}",
        )
    if note := scale.note([one.metric for one in comparison.metrics]):
        table.add_row()
        table.add_row(Text(note, style="dim"))
    return table


def labels_table(comparison: Comparison) -> Table:
    """Return the labels whose F1 changed most."""
    changed = sorted(comparison.labels, key=lambda one: -abs(one.f1[1] - one.f1[0]))
    shown = changed[:MOST_LABELS]
    left_out = f" ({len(shown)} of {len(changed)})" if len(shown) < len(changed) else ""
    table = _table(f"F1 by label{left_out}", "A", "B", "B − A", "rows")
    for one in shown:
        first, second = one.f1
        table.add_row(one.label, percent(first), percent(second), f"{100 * (second - first):+.2f}", count(one.support))
    return table


def print_row(row: RowChange, console: Console) -> None:
    """Print one row with its reference and both predictions."""
    better, style = ("B is better", "green") if row.change > 0 else ("A is better", "red")
    console.print(Text.assemble((row.id, "bold"), "  ", (f"{better} ({row.change:+.2f})", style)))
    for name, value in (
        *row.input.items(),
        ("reference", row.reference),
        ("A", row.predictions[0]),
        ("B", row.predictions[1]),
    ):
        console.print(Text.assemble((f"  {name:9}  ", "dim"), _text(value)), soft_wrap=True)
    console.print()


def signed(metric: str, difference: float, scale: Scale) -> str:
    """Write a difference of scores with its sign: `+1.25`."""
    return f"{100 * difference:+.2f}" if scale.is_share(metric) else f"{difference:+.3f}"


def signed_span(one: MetricChange, scale: Scale) -> str:
    """Write the interval of a difference: `+0.4 to +2.1`."""
    low, high = (signed(one.metric, end, scale) for end in one.interval)
    return f"{low} to {high}"


def p_value(value: float) -> str:
    """Write a p-value: `0.031`, or `<0.001`."""
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def _style(one: MetricChange) -> str:
    if one.p_value >= 0.05:
        return ""
    return "green" if (one.difference > 0) == one.higher_is_better else "red"


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"


def _table(first: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="not bold dim")
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
