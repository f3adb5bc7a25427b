"""The reports of a leaderboard: one page of HTML that needs nothing else, Markdown, CSV, and JSON."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from vertebra.report.comparison import p_value, signed
from vertebra.report.html import environment
from vertebra.report.leaderboard_plots import (
    critical_difference_diagram,
    importance,
    importance_bars,
    learning_curves,
    parallel_coordinates,
    score_against_cost,
    swept_names,
)
from vertebra.report.numbers import duration, magnitude
from vertebra.report.scale import Scale
from vertebra.runs.folder import RunFolder
from vertebra.statistics.across_tasks import normalised

if TYPE_CHECKING:
    from vertebra.runs.leaderboard import BaselineResult, Leaderboard, Result, TaskBoard

COST_NAMES = {
    "wall_seconds": "time",
    "cpu_seconds": "CPU time",
    "tokens_per_second": "tokens/s",
    "peak_memory_bytes": "memory",
    "energy_joules": "energy",
    "trainable_parameters": "trained",
}
"""The columns of costs, by what `cost.json` calls them."""


def write_leaderboard(folder: Path, board: Leaderboard, scale: Scale) -> None:
    """Write `leaderboard.html`, `.md`, `.csv` and `.json` into a folder; `RunError` where the disk does not take them."""
    place = RunFolder(folder)
    place.write_json("leaderboard.json", board.document())
    place.write_text("leaderboard.csv", as_csv(board))
    place.write_text("leaderboard.md", as_markdown(board, scale))
    place.write_text("leaderboard.html", render(board, scale))


# --- the page


@dataclass(frozen=True)
class Cell:
    """A number of a table as it is written, and what it is sorted by."""

    text: str
    value: str
    numeric: bool = True


@dataclass(frozen=True)
class SystemView:
    """A line of the table of systems."""

    name: str
    cells: list[Cell]


@dataclass(frozen=True)
class HeatCell:
    """One score in the table of scores; `share` goes from the worst to the best on its task."""

    mean: float
    interval: tuple[float, float]
    share: float
    best: bool


@dataclass(frozen=True)
class HeatRow:
    """One task in the table of scores."""

    task: TaskBoard
    cells: list[HeatCell | None]
    baseline: BaselineResult | None


@dataclass(frozen=True)
class ScoreLine:
    """A line of a task's own table."""

    name: str
    mean: float
    interval: tuple[float, float]
    seeds: list[str]
    """The score of each seed."""
    cells: list[Cell]
    baseline: bool


@dataclass(frozen=True)
class TaskView:
    """A task's section."""

    task: TaskBoard
    lines: list[ScoreLine]


def render(board: Leaderboard, scale: Scale) -> str:
    """Return the page; only its own script may run in it, and it asks for nothing."""
    script = resources.files("vertebra.report").joinpath("templates/leaderboard.js").read_text(encoding="utf-8")
    costs = [name for name in COST_NAMES if any(name in line.cost for line in board.systems)]
    metrics = [task.metric for task in board.tasks]
    return (
        environment()
        .get_template("leaderboard.html.j2")
        .render(
            board=board,
            scale=scale,
            costs=[COST_NAMES[name] for name in costs],
            lines=[
                SystemView(
                    line.name,
                    [
                        number(line.normalised, "{:.1f}", 100),
                        number(line.average_rank, "{:.2f}"),
                        Cell(str(line.tasks), str(line.tasks)),
                        *cost_cells(line.cost, costs),
                    ],
                )
                for line in board.systems
            ],
            heat=[heat_row(task, [line.name for line in board.systems]) for task in board.tasks],
            marks=scale.note(metrics),
            lower=not all(task.higher_is_better for task in board.tasks),
            plots={
                "ranks": Markup(critical_difference_diagram(board)),
                "cost": Markup(score_against_cost(board, scale)),
                "learning": Markup(learning_curves(board, scale)),
            },
            sweeps=sweep_views(board, scale),
            views=[TaskView(task, score_lines(task, costs, scale)) for task in board.tasks],
            p_value=p_value,
            signed=signed,
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def heat_row(task: TaskBoard, systems: Sequence[str]) -> HeatRow:
    """Return a task's line of the table of scores."""
    scores = [*(one.mean for one in task.results), *(one.score for one in task.baselines)]
    shares = normalised(scores, higher_is_better=task.higher_is_better)
    by_system = {
        one.system: HeatCell(one.mean, one.interval, share, task.stands_out(one.system))
        for one, share in zip(task.results, shares, strict=False)
    }
    return HeatRow(task, [by_system.get(name) for name in systems], best_baseline(task))


def best_baseline(task: TaskBoard) -> BaselineResult | None:
    """Return the baseline that a task's systems must beat."""
    best = max if task.higher_is_better else min
    return best(task.baselines, key=lambda one: one.score, default=None)


def score_lines(task: TaskBoard, costs: Sequence[str], scale: Scale) -> list[ScoreLine]:
    """Return the lines of a task's table: systems, then baselines."""
    systems = [
        ScoreLine(
            one.system, one.mean, one.interval, written_seeds(task, one, scale), cost_cells(one.cost, costs), False
        )
        for one in task.results
    ]
    nothing = [Cell("–", "") for _ in costs]
    return [*systems, *(ScoreLine(one.name, one.score, one.interval, [], nothing, True) for one in task.baselines)]


def written_seeds(task: TaskBoard, result: Result, scale: Scale) -> list[str]:
    """Return the score of each seed."""
    return [scale.score(task.metric, score) for score in result.scores.values()]


def cost_cells(cost: Mapping[str, float], names: Sequence[str]) -> list[Cell]:
    """Return a cell for each cost."""
    return [Cell(written_cost(name, cost[name]), str(cost[name])) if name in cost else Cell("–", "") for name in names]


def written_cost(name: str, value: float) -> str:
    """Write a cost in its unit: `3 min 05 s`, `1.9 GiB`, `12.4 kJ`, `9.2M`."""
    if name.endswith("_seconds"):
        return duration(value)
    if name.endswith("_bytes"):
        return f"{value / 2**30:.2f} GiB"
    if name.endswith("_joules"):
        return f"{value / 1000:.1f} kJ"
    return magnitude(value)


def number(value: float | None, form: str, factor: float = 1) -> Cell:
    """Return a cell for a number that may not be known."""
    return Cell("–", "") if value is None else Cell(form.format(factor * value), str(value))


def sweep_views(board: Leaderboard, scale: Scale) -> list[dict[str, Any]]:
    """Return the plots of the settings of each task that was swept."""
    found = []
    for task in board.tasks:
        runs = [run for run in board.runs if run.task == task.name]
        if len([name for name in swept_names(runs) if name != "seed"]) < 2:
            continue  # what one setting does is what the tables show
        found.append(
            {
                "task": task.name,
                "metric": task.metric,
                "parallel": Markup(parallel_coordinates(runs, task.metric, scale)),
                "importance": Markup(importance_bars(importance(runs))),
            }
        )
    return found


# --- Markdown and CSV


@dataclass(frozen=True)
class Grid:
    """A table of written cells; what stands out is `**so**`."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1
    """How many columns hold names; the others behind them are numbers."""


def as_markdown(board: Leaderboard, scale: Scale) -> str:
    """Return tables and notes as Markdown."""
    parts = [
        markdown_table(part.columns, part.rows) if isinstance(part, Grid) else part for part in written(board, scale)
    ]
    return "\n\n".join([f"# {board.title}", *parts]) + "\n"


def written(board: Leaderboard, scale: Scale) -> list[Grid | str]:
    """Return what a leaderboard says: systems over all tasks, then scores, then a line for each pair that differs."""
    systems = [line.name for line in board.systems]
    costs = [name for name in COST_NAMES if any(name in line.cost for line in board.systems)]
    ranked = [
        [
            line.name,
            number(line.normalised, "{:.1f}", 100).text,
            number(line.average_rank, "{:.2f}").text,
            *(cell.text for cell in cost_cells(line.cost, costs)),
        ]
        for line in board.systems
    ]
    scored = [
        [
            f"{task.name}, {scale.named(task.metric)}",
            *(written_result(task, one, scale) if (one := task.of(name)) else "–" for name in systems),
            f"{scale.score(task.metric, best.score)} ({best.name})" if (best := best_baseline(task)) else "–",
        ]
        for task in board.tasks
    ]
    parts: list[Grid | str] = [
        Grid(["system", "normalised", "rank", *(COST_NAMES[name] for name in costs)], ranked),
        "Mean over seeds with its 95 % interval over examples and seeds, in percent"
        + ("; bold where no system is better by its corrected p-value." if len(systems) > 1 else "."),
        Grid(["task", *systems, "best baseline"], scored),
    ]
    if note := scale.note([task.metric for task in board.tasks]):
        parts.append(note)
    if board.ranks is not None:
        parts.append(
            f"Ranks over {board.ranks['tasks']} tasks: Friedman p = {p_value(board.ranks['friedman_p'])}, Nemenyi's critical "
            f"difference {board.ranks['critical_difference']:.2f}."
        )
    pairs = [
        [
            task.name,
            pair.first,
            pair.second,
            f"{signed(task.metric, pair.difference, scale)} ({signed(task.metric, pair.interval[0], scale)} to "
            f"{signed(task.metric, pair.interval[1], scale)})",
            p_value(pair.p_value),
            p_value(pair.adjusted),
        ]
        for task in board.tasks
        for pair in task.pairs
    ]
    if pairs:
        parts.append(Grid(["task", "first", "second", "difference", "p", "p, corrected (Holm)"], pairs, names=3))
    return [*parts, *(f"Note: {note}" for note in board.notes)]


def written_result(task: TaskBoard, result: Result, scale: Scale) -> str:
    """Write a score with its interval: `**62.91** (61.5–64.2)`."""
    score = scale.score(task.metric, result.mean)
    shown = f"**{score}**" if task.stands_out(result.system) else score
    return f"{shown} ({scale.span(task.metric, result.interval)})"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; all columns but the first are numbers."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (columns, *rows)]
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (escaped[0], rule, *escaped[1:]))


def as_csv(board: Leaderboard) -> str:
    """Return a line for each score of each seed, each mean and each baseline; scores are as they are, not in percent."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["task", "metric", "split", "kind", "system", "seed", "score", "low", "high", *COST_NAMES])
    for task in board.tasks:
        about = [task.name, task.metric, task.split]
        for one in task.results:
            for seed, score in one.scores.items():
                writer.writerow([*about, "seed", one.system, seed, score, "", "", *[""] * len(COST_NAMES)])
            costs = [one.cost.get(name, "") for name in COST_NAMES]
            writer.writerow([*about, "mean", one.system, "", one.mean, *one.interval, *costs])
        for base in task.baselines:
            nothing = [""] * len(COST_NAMES)
            writer.writerow([*about, "baseline", base.name, "", base.score, *base.interval, *nothing])
    return out.getvalue()
