"""The plots of a leaderboard as inline SVG, in the page's colours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vertebra.report.curves import CARD, GRID, INK, PALETTE, SERIES, STYLE, as_svg
from vertebra.report.scale import Scale

if TYPE_CHECKING:
    from vertebra.runs.leaderboard import Leaderboard, SweptRun, TaskBoard

COLUMNS = 3
RANKS = 4.6
"""Length of the line of ranks, in inches."""
PANEL = (3.7, 2.7)
"""Width and height of one task's panel, in inches."""
LEGEND = 2.45
"""Width of a legend's column, in inches."""
LONGEST = 24
"""Letters of a system's name in a plot."""
DASHES = ("-", "--", ":", "-.")
DARK, LIGHT = 0.15, 0.9
"""The part of the colour map that can be seen on light and dark pages."""


def styles(systems: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the colour and the dashes of each system, the same in every plot."""
    return {
        name: {"color": PALETTE[number % len(PALETTE)], "linestyle": DASHES[number // len(PALETTE) % len(DASHES)]}
        for number, name in enumerate(systems)
    }


def short_names(systems: Sequence[str]) -> dict[str, str]:
    """Return what plots call each system: its name where that is short, else its number in the table and a part of it."""
    short = {name: shown(name) for name in systems}
    if len(set(short.values())) == len(short):
        return short
    return {name: shown(f"{number}. {name}") for number, name in enumerate(systems, start=1)}


def score_against_cost(board: Leaderboard, scale: Scale) -> str:
    """Return for each task a panel with a point for each system: its score over the seconds that a run takes."""
    costs = {
        task.name: {one.system: one.cost["wall_seconds"] for one in task.results if "wall_seconds" in one.cost}
        for task in board.tasks
    }
    tasks = [task for task in board.tasks if costs[task.name]]

    systems = [line.name for line in board.systems]
    names = short_names(systems)

    def draw(axes: Axes, task: TaskBoard, look: Mapping[str, Mapping[str, Any]]) -> None:
        known = costs[task.name]
        for one in task.results:
            if one.system not in known:
                continue
            low, high = one.interval
            errors = [[max(0.0, one.mean - low)], [max(0.0, high - one.mean)]]
            colour = look[one.system]["color"]
            axes.errorbar(
                [known[one.system]], [one.mean], errors, fmt="o", markersize=6, color=colour, label=names[one.system]
            )
        if max(known.values()) > 8 * min(known.values()) > 0:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
        else:
            axes.set_xlim(0, 1.15 * max(known.values()))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("seconds")

    return panels("cost", tasks, systems, scale, draw)


def learning_curves(board: Leaderboard, scale: Scale) -> str:
    """Return for each task a panel with a line for each system: its validation score over steps."""
    tasks = [task for task in board.tasks if any(len(one.curve) > 1 for one in task.results)]

    systems = [line.name for line in board.systems]
    names = short_names(systems)

    def draw(axes: Axes, task: TaskBoard, look: Mapping[str, Mapping[str, Any]]) -> None:
        for one in task.results:
            if one.curve:
                points, name = zip(*one.curve, strict=True), names[one.system]
                axes.plot(*points, **look[one.system], label=name, marker="o", markersize=3)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_xlabel("step")

    return panels("learning", tasks, systems, scale, draw)


def panels(
    name: str,
    tasks: Sequence[TaskBoard],
    systems: Sequence[str],
    scale: Scale,
    draw: Callable[[Axes, TaskBoard, Mapping[str, Mapping[str, Any]]], None],
) -> str:
    """Return a panel for each task with one legend for all; an empty string without tasks."""
    if not tasks:
        return ""
    columns = min(COLUMNS, len(tasks))
    rows = ceil(len(tasks) / columns)
    width = max(PANEL[0] * columns, 5.6)
    beside = int(width / LEGEND)
    size = (width, PANEL[1] * rows + 0.25 * ceil(len(systems) / beside) + 0.2)
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, task in zip(grid, tasks, strict=False):
            draw(axes, task, styles(systems))
            shares = scale.is_share(task.metric)
            axes.set_title(f"{task.name}: {task.metric}", fontsize=9.5)
            axes.yaxis.set_major_formatter(FuncFormatter(_written(shares)))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.margins(y=0.15)
        for axes in grid[len(tasks) :]:
            axes.set_axis_off()
        legend = {label: one for axes in grid for one, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=min(beside, len(legend)))
        return as_svg(figure, name)


def critical_difference_diagram(board: Leaderboard) -> str:
    """Return average ranks on a line, the best on the left, with bars that join systems which do not differ (Demšar 2006)."""
    if board.ranks is None:
        return ""
    ranked = sorted(
        (line for line in board.systems if line.average_rank is not None), key=lambda line: line.average_rank or 0
    )
    systems, distance = len(ranked), board.ranks["critical_difference"]
    half, groups = ceil(systems / 2), board.ranks["alike"]
    height = 1.1 + 0.24 * half + 0.12 * len(groups)
    places = {line.name: line.average_rank or 0.0 for line in ranked}
    names = short_names([line.name for line in board.systems])
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "ranks"}):
        figure = Figure(figsize=(2 * LEGEND + RANKS, height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        margin = LEGEND / RANKS * (systems - 1)
        axes.set_xlim(1 - margin, systems + margin)
        bottom = -(1.0 + 0.5 * len(groups) + half)
        axes.set_ylim(bottom - 0.3, 2.4)
        axes.plot([1, systems], [0, 0], color=INK, linewidth=1.2)
        for rank in range(1, systems + 1):
            axes.plot([rank, rank], [0, 0.2], color=INK, linewidth=1)
            axes.text(rank, 0.35, str(rank), ha="center", va="bottom")
        shown = min(distance, systems - 1)
        axes.plot([1, 1 + shown], [1.6, 1.6], color=INK, linewidth=1.2, marker="|")
        more = "" if distance <= systems - 1 else ", more than the line is long"
        axes.text(1 + shown / 2, 1.75, f"critical difference {distance:.2f}{more}", ha="center", va="bottom")
        for number, group in enumerate(groups):
            ends = [places[name] for name in group]
            level = -0.4 - 0.5 * number
            axes.plot([min(ends) - 0.04, max(ends) + 0.04], [level, level], color=SERIES[0], linewidth=4)
        for number, line in enumerate(ranked):
            left = number < half
            place = number if left else systems - 1 - number
            level = -(1.0 + 0.5 * len(groups) + place)
            edge = 1 - 0.08 * margin if left else systems + 0.08 * margin
            average = places[line.name]
            axes.plot([average, average, edge], [0, level, level], color=INK, linewidth=0.9)
            name = names[line.name]
            said = f"{name}  {average:.2f}" if left else f"{average:.2f}  {name}"
            axes.text(edge, level, f" {said} ", ha="right" if left else "left", va="center")
        return as_svg(figure, "ranks")


def parallel_coordinates(runs: Sequence[SweptRun], metric: str, scale: Scale) -> str:
    """Return a line for each run of a sweep through its settings to its score, brighter where the score is higher."""
    names = swept_names(runs)
    if not names:
        return ""
    scores = [run.score for run in runs]
    low, spread = min(scores), (max(scores) - min(scores)) or 1.0
    axes_values = {name: ordered([run.axes.get(name) for run in runs]) for name in names}
    colours = matplotlib.colormaps["viridis"]
    behind = {"facecolor": CARD, "edgecolor": "none", "pad": 1.5}
    label: dict[str, Any] = {"va": "center", "fontsize": 8.5, "bbox": behind, "zorder": 5}
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "parallel"}):
        figure = Figure(figsize=(max(5.6, 1.9 * (len(names) + 1)), 3.4), layout="constrained")
        axes = figure.add_subplot()
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.set_xlim(-0.4, len(names) + 0.4)
        axes.set_ylim(-0.08, 1.08)
        for place, name in enumerate(names):
            values = axes_values[name]
            axes.plot([place, place], [0, 1], color=GRID, linewidth=1.2)
            for value in values if len(values) <= 8 else [values[0], values[-1]]:
                axes.text(place + 0.04, position(value, values), shown(value), **label)
        axes.plot([len(names)] * 2, [0, 1], color=GRID, linewidth=1.2)
        for end, score in ((0, low), (1, max(scores))):
            axes.text(len(names) + 0.04, end, scale.score(metric, score), va="center", fontsize=8.5)
        for run in sorted(runs, key=lambda run: run.score):
            height = (run.score - low) / spread
            line = [*(position(run.axes.get(name), axes_values[name]) for name in names), height]
            axes.plot(range(len(line)), line, color=colours(DARK + (LIGHT - DARK) * height), linewidth=1.4, alpha=0.85)
        axes.set_xticks(range(len(names) + 1), [*names, metric])
        return as_svg(figure, "parallel")


def importance_bars(importances: Mapping[str, float]) -> str:
    """Return a bar for each setting: the share of the differences between scores that it explains."""
    if not importances:
        return ""
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "importance", "axes.grid.axis": "x"}):
        figure = Figure(figsize=(5.6, 0.8 + 0.32 * len(importances)), layout="constrained")
        axes = figure.add_subplot()
        names = sorted(importances, key=lambda name: importances[name])
        axes.barh(names, [importances[name] for name in names], color=SERIES[0], height=0.6)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        return as_svg(figure, "importance")


def importance(runs: Sequence[SweptRun]) -> dict[str, float]:
    """Return how much each swept setting matters for the score; shares that sum to 1, empty where nothing can be said.

    A forest of trees is fitted to (settings, score), and each setting's values are shuffled: how much worse the forest then
    is, over all settings' together (permutation importance; Breiman, 2001, "Random forests"). The same each time.
    """
    names = swept_names(runs)
    scores = [run.score for run in runs]
    if len(names) < 2 or len(runs) < 6 or min(scores) == max(scores):
        return {}
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    values = {name: ordered([run.axes.get(name) for run in runs]) for name in names}
    settings = np.array([[values[name].index(run.axes.get(name)) for name in names] for run in runs], dtype=float)
    forest = RandomForestRegressor(100, random_state=0).fit(settings, scores)
    found = permutation_importance(forest, settings, scores, n_repeats=20, random_state=0).importances_mean.clip(0)
    total = float(found.sum())
    return {name: float(one) / total for name, one in zip(names, found, strict=True)} if total else {}


def swept_names(runs: Sequence[SweptRun]) -> list[str]:
    """Return the settings of which the runs have several values."""
    names = dict.fromkeys(name for run in runs for name in run.axes)
    return [name for name in names if len({str(run.axes.get(name)) for run in runs}) > 1]


def ordered(values: Sequence[Any]) -> list[Any]:
    """Return different values in their order: numbers by size, all else as texts."""
    different = list({str(value): value for value in values}.values())
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in different)
    return sorted(different) if numbers else sorted(different, key=str)


def position(value: Any, values: Sequence[Any]) -> float:
    """Return where a value stands on its axis, from 0 to 1: by its place among the values."""
    return list(map(str, values)).index(str(value)) / (len(values) - 1) if len(values) > 1 else 0.5


def shown(value: Any) -> str:
    """Write a setting's value briefly."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _written(shares: bool) -> Callable[[float, int], str]:
    return lambda value, _: f"{100 * value if shares else value:g}"
