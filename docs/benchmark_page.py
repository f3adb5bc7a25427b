"""The table in docs/benchmark.md, of a leaderboard that `vertebra benchmark` made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vertebra.host.manager import create_host
from vertebra.report.numbers import duration
from vertebra.report.scale import Scale

SCALE = Scale.of(create_host())


def leaderboard(file: Path) -> str:
    """Return for each task its baselines and systems: score, interval, seeds, and how long a run took."""
    lines = ["| task | | score | 95 % | seeds | a run |", "| --- | --- | ---: | ---: | --- | ---: |"]
    for task in json.loads(file.read_text(encoding="utf-8"))["tasks"]:
        name = f"{task['name']}, {SCALE.named(task['metric'])}"
        for one in task["baselines"]:
            lines.append(line(name, one["name"], one["score"], task["metric"], one["interval"], ["", ""]))
            name = ""
        for one in task["results"]:
            seeds = ", ".join(SCALE.score(task["metric"], score) for score in one["scores"].values())
            cost = [seeds, duration(one["cost"]["wall_seconds"])]
            lines.append(line(name, f"**{one['system']}**", one["mean"], task["metric"], one["interval"], cost))
            name = ""
    return "\n".join(lines)


def line(name: str, what: str, score: float, metric: str, interval: Any, cost: list[str]) -> str:
    """Return one line of the table."""
    span = SCALE.span(metric, tuple(interval)) if interval else ""
    return f"| {' | '.join([name, what, SCALE.score(metric, score), span, *cost])} |"
