"""The report of a run: one page of HTML that needs nothing else, made from the files of the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vertebra.report.curves import loss_curve, score_curve
from vertebra.report.examples import WorstErrors, worst_errors
from vertebra.report.numbers import count, duration, magnitude, percent, span
from vertebra.report.parameters import describe_trained
from vertebra.report.read import read_baselines, read_config, read_json, read_lines, read_text
from vertebra.report.scale import Scale
from vertebra.report.scores import SPLITS, higher_is_better, model_name, score_groups, scores_of_tasks, verdict
from vertebra.runs.folder import RunFolder

if TYPE_CHECKING:
    from vertebra.host.manager import Host

TOO_LONG = {"window": "cut into overlapping windows", "truncate": "cut off", "error": "refused"}
SMALL_MATRIX = 12
"""Labels of a confusion matrix that still fit with their names written across."""


def write_report(folder: RunFolder | Path, host: Host, ending: Mapping[str, Any] | None = None) -> Path:
    """Write `report.html` into a run folder and return its path; `ending` is what `run.json` will say besides.

    A file that the run did not write leaves its section out. Sections from plugins stand at the end, in the order of
    their names, each under its summary (or name) as a heading; one that fails is named instead.
    """
    run = RunFolder(folder) if isinstance(folder, Path) else folder
    run.write_text("report.html", render(run, host, ending or {}))
    return run.path / "report.html"


def render(run: RunFolder, host: Host, ending: Mapping[str, Any]) -> str:
    """Return the page of a run."""
    name = run.path.resolve().name
    state = {**read_json(run, "run.json"), **ending}
    config = read_config(run)
    model = model_name(state)
    scores = score_groups(read_json(run, "metrics.json"), read_json(run, "intervals.json"), read_baselines(run), model)
    data = read_json(run, "data.json")
    evaluations = list(read_lines(run, "evaluations.jsonl"))
    better = higher_is_better(host, scores[0].metrics[0]) if scores else True
    scale = Scale.of(host)
    several = state.get("tasks", []) if len(state.get("tasks", [])) > 1 else []
    tasks = scores_of_tasks(run, several, model, host)
    drawn = [*scores[0].metrics[:1], *(f"{one.name}.{one.metric}" for one in tasks)] if scores and tasks else None
    template = environment().get_template("report.html.j2")
    return template.render(
        state=state,
        title=", ".join(state.get("tasks", [])) or name,
        folder=name,
        several=several,
        tasks=tasks,
        facts=facts(state, config),
        scale=scale,
        scores=scores,
        verdict=verdict(scores[0], better, scale) if scores else "",
        has_baselines=(run.path / "baselines.json").exists(),
        loss_curve=Markup(loss_curve(read_lines(run, "log.jsonl"), evaluations)),
        score_curve=Markup(score_curve(evaluations, config.get("trainer", {}).get("metric"), scale, drawn)),
        figures=figure_views(read_json(run, "figures.json")),
        errors=find_errors(run, better),
        data=data,
        over_long=over_long(data),
        config=read_text(run, "config.yaml"),
        environment=read_json(run, "environment.json"),
        sections=plugin_sections(run, host),
    )


def environment() -> Environment:
    """Return the template environment; everything that is not marked as markup is escaped."""
    jinja = Environment(
        loader=PackageLoader("vertebra.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    jinja.filters.update(percent=percent, span=span, number=count, position=position)
    return jinja


def position(score: float) -> str:
    """Return where a score stands on a line from 0 to 1, in percent."""
    return percent(min(max(score, 0.0), 1.0))


# --- the head of the page


def facts(state: Mapping[str, Any], config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what the page says about the run at its top, as (name, value); what is not known is left out."""
    backbone = state.get("backbone", {})
    parts = [
        str(backbone.get("name", "")),
        f"{magnitude(backbone['parameters'])} parameters" if "parameters" in backbone else "",
        f"{backbone['init']} weights" if "init" in backbone else "",
        _attention(backbone.get("attention", "")),
        str(backbone.get("packing", "")),
    ]
    known = [
        ("Data", ", ".join(filter(None, (data_source(choice) for choice in config.get("tasks", []))))),
        ("Backbone", " · ".join(filter(None, parts))),
        ("Trained", _adapter(state.get("adapter"))),
        ("Seed", str(config.get("seed", ""))),
        ("Started", str(state.get("created", ""))[:16].replace("T", " ")),
        ("Took", duration(state["seconds"]) if state.get("seconds") is not None else ""),
        ("Run key", str(state.get("key", ""))[:12]),
    ]
    return [(name, value) for name, value in known if value]


def _adapter(found: Any) -> str:
    """Say what is trained; nothing for a run of a time when that was not written down."""
    if not isinstance(found, Mapping):
        return ""
    return describe_trained(
        str(found["name"]), found["trained"], found["backbone"], found["head"], found.get("adapters", 1)
    )


def _attention(found: Any) -> str:
    """Say how layers look: alike, a share of them, or each by itself."""
    if isinstance(found, list):
        return ", ".join(f"{direction} ×{len(list(some))}" for direction, some in groupby(found))
    if isinstance(found, float):
        return f"bidirectional in the upper {found:.0%} of the layers"
    return str(found)


def data_source(choice: Mapping[str, Any]) -> str:
    """Say where the rows of a task came from: the path, or the reader that made them."""
    data = choice.get("data") or {}
    return str(data.get("path") or data.get("format") or "")


# --- figures


@dataclass(frozen=True)
class Cell:
    """A cell of a table: `share` draws a bar behind a number of 0…1."""

    text: str
    numeric: bool
    share: float | None


@dataclass(frozen=True)
class TableView:
    """A `vertebra.Table` ready to be written."""

    title: str
    columns: Sequence[str]
    rows: list[list[Cell]]
    note: str


@dataclass(frozen=True)
class MatrixView:
    """A `vertebra.ConfusionMatrix` ready to be written: (label, total, ((count, share of the row), …)) for each row."""

    title: str
    labels: Sequence[str]
    rows: list[tuple[str, int, list[tuple[int, float]]]]
    note: str

    @property
    def dense(self) -> bool:
        """Whether the labels above the columns must stand upright."""
        return len(self.labels) > SMALL_MATRIX


FigureView = TableView | MatrixView


def figure_views(figures: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, list[FigureView]]]:
    """Return the figures of each split, test first."""
    return [(split, [figure_view(figure) for figure in figures[split]]) for split in SPLITS if figures.get(split)]


def figure_view(figure: Mapping[str, Any]) -> FigureView:
    """Prepare one figure of `figures.json`."""
    note = figure.get("note", "")
    if figure["kind"] == "table":
        shares = [is_share([row[place] for row in figure["rows"]]) for place in range(len(figure["columns"]))]
        rows = [[table_cell(value, share) for value, share in zip(row, shares, strict=True)] for row in figure["rows"]]
        return TableView(figure["title"], figure["columns"], rows, note)
    labelled = zip(figure["labels"], figure["counts"], strict=True)
    matrix = [(label, sum(row), [(times, times / (sum(row) or 1)) for times in row]) for label, row in labelled]
    return MatrixView(figure["title"], figure["labels"], matrix, note)


def is_share(values: Sequence[Any]) -> bool:
    """Whether a column holds only numbers of 0…1, and perhaps empty cells."""
    numbers = [value for value in values if value != ""]
    return bool(numbers) and all(isinstance(value, float) and 0 <= value <= 1 for value in numbers)


def table_cell(value: Any, share: bool) -> Cell:
    """Write one value: floats with four digits, whole numbers with separators."""
    if isinstance(value, float):
        return Cell(f"{value:.4f}", True, value if share else None)
    if isinstance(value, int):
        return Cell(count(value), True, None)
    return Cell(str(value), False, None)


# --- data


def over_long(data: Mapping[str, Any]) -> str:
    """Say how many rows did not fit the backbone's context and what became of them; empty where all fit."""
    rows = sum(counts.get("too_long", 0) for counts in data.get("splits", {}).values())
    handled = TOO_LONG.get(data.get("too_long", ""), "handled as the task does")
    return f"{count(rows)} rows were longer than the backbone's context and were {handled}." if rows else ""


# --- errors, and what plugins add


def find_errors(run: RunFolder, higher: bool) -> tuple[str, WorstErrors] | None:
    """Return the worst errors of the first split that has predictions, test before valid, with that split's name."""
    for split in SPLITS:
        lines = (line for line in read_lines(run, "predictions.jsonl") if line["split"] == split)
        errors = worst_errors(lines, higher_is_better=higher)
        if errors.total:
            return split, errors
    return None


@dataclass(frozen=True)
class PluginSection:
    """What a plugin adds to the page, or why it could not."""

    name: str
    heading: str
    html: Markup
    error: str


def plugin_sections(run: RunFolder, host: Host) -> list[PluginSection]:
    """Call each registered section; one that fails keeps its place with an error, and an empty one is left out."""
    sections = [plugin_section(run, host, name) for name in sorted(host.names("report section"))]
    return [section for section in sections if section.html or section.error]


def plugin_section(run: RunFolder, host: Host, name: str) -> PluginSection:
    """Call one registered section."""
    heading = name
    try:
        ref = host.get("report section", name)
        heading = ref.summary or name
        return PluginSection(name, heading, Markup(ref.load()(run)), "")
    except Exception as error:  # a plugin's mistake must not cost the run its report
        return PluginSection(name, heading, Markup(), f"{type(error).__name__}: {error}")
