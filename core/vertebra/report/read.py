"""Read the files of a run folder as they are: a report can be made of a run that stopped half way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from vertebra.errors import RunError
from vertebra.runs.folder import RunFolder

COSTS = (
    "wall_seconds",
    "cpu_seconds",
    "tokens_per_second",
    "peak_memory_bytes",
    "energy_joules",
    "trainable_parameters",
)
"""What `cost.json` may say, in the order of the columns."""


def read_json(run: RunFolder, name: str) -> dict[str, Any]:
    """Return the object in a JSON file, or an empty one where there is no file."""
    return dict(run.read_json(name)) if (run.path / name).exists() else {}


def read_baselines(run: RunFolder) -> dict[str, dict[str, Any]]:
    """Return what `baselines.json` says of each baseline, nothing where there is no file; `RunError` where it is damaged."""
    baselines = run.read_json("baselines.json") if (run.path / "baselines.json").exists() else {}
    try:
        for one in baselines.values():
            if not isinstance(one["summary"], str) or not isinstance(one["seconds"], int | float):
                raise TypeError
            numbers = [score for scores in one["scores"].values() for score in scores.values()]
            ends = [end for ranges in one["intervals"].values() for low, high in ranges.values() for end in (low, high)]
            if not all(isinstance(number, int | float) for number in (*numbers, *ends)):
                raise TypeError
    except (LookupError, TypeError, ValueError, AttributeError):
        raise RunError(
            f"'{run.path / 'baselines.json'}' does not hold the scores of baselines: it is damaged."
        ) from None
    return dict(baselines)


def read_cost(run: RunFolder) -> dict[str, float]:
    """Return what `cost.json` says, nothing where there is no file; `RunError` where it is damaged."""
    content = run.read_json("cost.json") if (run.path / "cost.json").exists() else {}
    if not isinstance(content, dict) or not all(type(value) in (int, float) for value in content.values()):
        raise RunError(f"'{run.path / 'cost.json'}' does not hold what a run costs: it is damaged.")
    return content


def read_config(run: RunFolder) -> dict[str, Any]:
    """Return the configuration as plain values, or an empty one where there is no file."""
    return run.read_config() if (run.path / "config.yaml").exists() else {}


def read_text(run: RunFolder, name: str) -> str:
    """Return the text of a file, or an empty string where there is no file."""
    file = run.path / name
    return file.read_text(encoding="utf-8") if file.exists() else ""


def read_lines(run: RunFolder, name: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file, none where there is no file; a last line cut off by a crash is left out."""
    path = run.path / name
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                if not line.endswith("\n"):
                    return
                raise RunError(f"Cannot read line {number} of '{path}': it is not JSON ({error}).") from error
