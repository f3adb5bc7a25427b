"""Learning curves as inline SVG, in colours that follow the page between light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vertebra.report.average import Average
from vertebra.report.scale import Scale

Points = tuple[list[float], list[float]]

# Colours that no one would choose stand for the page's own: the SVG is written with them and then given variables.
INK, GRID, SOFT, CARD = "#010101", "#010102", "#010103", "#010104"
SERIES = ("#010201", "#010202", "#010203", "#010204")
PALETTE = (*SERIES, "#010205", "#010206", "#010207", "#010208")
"""For plots with more lines than a run's report has."""
VARIABLES = {
    INK: "var(--muted)",
    GRID: "var(--line)",
    SOFT: "var(--series-1-soft)",
    CARD: "var(--card)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(PALETTE, start=1)},
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}
SIZE = (5.6, 3.1)
"""Width and height in inches."""
MOST_POINTS = 500
PIXELS = 96 / 72
"""Of a page, in a point of a figure."""


def loss_curve(log: Iterable[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]) -> str:
    """Return an SVG of the training loss (each logged value, and smoothed) and of the validation loss over steps.

    The arguments are the lines of `log.jsonl` and `evaluations.jsonl`; an empty string where there is nothing to draw.
    """
    logged = [(float(line["step"]), float(line["loss"])) for line in log]
    steps, losses = thinned(logged)
    validation = [(float(line["step"]), float(line["loss"])) for line in evaluations if line["split"] == "valid"]
    if not steps and not validation:
        return ""
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "loss"}):
        figure, axes = _axes()
        if steps:
            smooth = Average(0.9)
            axes.plot(steps, losses, color=SOFT, linewidth=1)
            axes.plot(steps, [smooth.add(loss) for loss in losses], color=SERIES[0], label="training")
        if validation:
            axes.plot(*zip(*validation, strict=True), color=SERIES[1], marker="o", markersize=4, label="validation")
        axes.legend(loc="upper right")
        return as_svg(figure, "loss")


def score_curve(
    evaluations: Sequence[Mapping[str, Any]],
    chosen: str | None = None,
    scale: Scale | None = None,
    drawn: Sequence[str] | None = None,
) -> str:
    """Return an SVG of the validation scores over steps, in percent, with the best one marked; may be empty.

    The first argument is the lines of `evaluations.jsonl`. `chosen` is the score that picks the checkpoint, the first
    one by default; it is the strong line. Of `drawn`, at most eight are drawn, by default the first four; all shares or none.
    """
    valid = [line for line in evaluations if line["split"] == "valid" and line["scores"]]
    if not valid:
        return ""
    scale = scale or Scale()
    colours = PALETTE if drawn else SERIES
    wanted = [name for name in drawn or valid[0]["scores"] if name in valid[0]["scores"]]
    if not wanted:
        return ""
    names = sorted(wanted, key=lambda name: name != chosen)
    shares = scale.is_share(names[0])
    names = [name for name in names if scale.is_share(name) == shares][: len(colours)]
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "score"}):
        figure, axes = _axes()
        for order, (name, colour) in reversed(list(enumerate(zip(names, colours, strict=False)))):
            points = [(line["step"], line["scores"][name]) for line in valid if name in line["scores"]]
            weight = {"marker": "o", "markersize": 4.5} if order == 0 else {"linewidth": 1.2, "alpha": 0.85}
            axes.plot(*zip(*points, strict=True), color=colour, label=name, zorder=3 - order / 10, **weight)
        _mark_best(axes, valid, names[0], scale)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value if shares else value:g}"))
        handles, labels = axes.get_legend_handles_labels()
        if drawn:
            figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=2)
        else:
            axes.legend(handles[::-1], labels[::-1], loc="best")
        return as_svg(figure, "score")


def thinned(points: Sequence[tuple[float, float]], at_most: int = MOST_POINTS) -> Points:
    """Return the x and y of at most so many points, each the mean of its neighbourhood, so that a page stays small."""
    size = max(1, -(-len(points) // at_most))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return (
        [group[-1][0] for group in groups],
        [sum(y for _, y in group) / len(group) for group in groups],
    )


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.03, y=0.12)
    return figure, axes


def _mark_best(axes: Axes, valid: Sequence[Mapping[str, Any]], name: str, scale: Scale) -> None:
    best = [line for line in valid if line.get("best") and name in line["scores"]]
    if not best:
        return
    step, score = best[-1]["step"], best[-1]["scores"][name]
    axes.plot([step], [score], "o", markersize=11, markerfacecolor="none", color=SERIES[0], markeredgewidth=1.5)
    axes.annotate(
        f"best {scale.score(name, score)}",
        (step, score),
        (0, 10),
        textcoords="offset points",
        ha="center",
        color=SERIES[0],
    )


def as_svg(figure: Figure, name: str) -> str:
    """Write the figure as an SVG that can stand in a page beside others, with ids of its own.

    It shrinks with the page and grows to its own size, so that letters of all figures are alike.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    written = file.getvalue()
    head = written.index("<svg")
    body = re.sub(r'<g id="[^"]*"', "<g", written[written.index(">", head) + 1 :])
    width, height = (72 * inches for inches in figure.get_size_inches())
    style = f"max-width: {width * PIXELS:.0f}px"
    svg = f'<svg class="curve" id="curve-{name}" role="img" style="{style}" viewBox="0 0 {width:g} {height:g}">{body}'
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg
