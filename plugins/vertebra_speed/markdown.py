"""Reports as Markdown: docs/performance.md is made of the JSON files of real runs. This module imports nothing heavy."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from vertebra_speed.table import Grid, grids, heading


def performance(folder: Path) -> str:
    """Return all reports in a folder: those of one machine and day stand together, each with its command and tables."""
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    reports.sort(key=lambda report: (report["date"], machine(report)), reverse=True)
    parts = []
    for (date, here), some in groupby(reports, key=lambda report: (report["date"], machine(report))):
        parts.append(f"### {date}\n\n{here}.")
        parts.extend(section(report) for report in some)
    return "\n\n".join(parts)


def machine(report: dict[str, Any]) -> str:
    """Say in one line what a report was measured on, and with."""
    found = report["environment"]
    versions = ", ".join(
        f"{name} {found[name]}" for name in ("vertebra", "torch", "transformers", "accelerate", "python")
    )
    gpu = "" if found["gpu"] == "none" else f", {found['gpu']}"
    commit = f", commit {found['git_commit'][:12]}" if "git_commit" in found else ""
    return f"{found['cpu']}, {found['cores']} cores, {found['memory_gib']} GiB{gpu}; {versions}{commit}"


def section(report: dict[str, Any]) -> str:
    """Return one report: its heading, its command, its tables and its notes."""
    notes = "\n".join(f"- {note}" for note in report["notes"])
    tables = [table(grid) for grid in grids(report)]
    return "\n\n".join([f"#### {heading(report)}", f"```bash needs an hour\n{report['line']}\n```", *tables, notes])


def table(grid: Grid) -> str:
    """Return a table whose numbers stand on the right."""
    rules = ["---", *["---:"] * (len(grid.columns) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (grid.columns, tuple(rules), *grid.rows))
