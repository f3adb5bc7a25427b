"""What a measurement found, as one JSON document; the table on the screen and docs/performance.md are made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

from vertebra_speed.comparison import Measured
from vertebra_speed.measure import Spread, rates, ratio
from vertebra_speed.options import Options

Report = dict[str, Any]
ABOUT_CEILING = "Of ceiling: operations of the real tokens, against a large matrix product in the same precision."


def make_report(
    command: str,
    options: Options,
    work: Mapping[str, Any],
    measured: Sequence[Measured],
    *,
    unit: str,
    differences: Mapping[str, Any],
    notes: Sequence[str],
    ceiling: Mapping[str, float] | None = None,
    operations_a_token: float = 0.0,
) -> Report:
    """Return the document: what was measured, on what, each side's figures, and each of ours against each of theirs.

    `unit` names what a side does several times a turn, or once. With a `ceiling` the document says which share of it
    each side reaches.
    """
    described = {key: value for key, value in work.items() if key != "environment"}
    return {
        "command": command,
        "date": date.today().isoformat(),
        "environment": work["environment"],
        "options": asdict(options) | {"shape": str(options.shape), "data": described["data"]},
        "work": described,
        "unit": unit,
        "ceiling": dict(ceiling or {}),
        "sides": [_side(one, options.threads, ceiling, operations_a_token) for one in measured],
        "ratios": _ratios(measured, options.threads),
        "differences": dict(differences),
        "notes": [*notes, *([ABOUT_CEILING] if ceiling else [])],
    }


def _side(
    one: Measured, threads: int, ceiling: Mapping[str, float] | None, operations_a_token: float
) -> dict[str, Any]:
    speed = Spread.of(rates(one.turns, threads))
    return {
        "name": one.side.name,
        "precision": one.side.precision,
        "ours": one.side.ours,
        "tokens_a_second": asdict(speed),
        "wall": asdict(Spread.of([turn.wall / turn.steps for turn in one.turns])),
        "cpu": asdict(Spread.of([turn.cpu / turn.steps for turn in one.turns])),
        "share_of_ceiling": speed.median * operations_a_token / ceiling[one.side.precision] if ceiling else None,
        "memory": one.memory,
        "turns": [asdict(turn) for turn in one.turns],
    }


def _ratios(measured: Sequence[Measured], threads: int) -> list[dict[str, Any]]:
    ours = [one for one in measured if one.side.ours]
    theirs = [one for one in measured if not one.side.ours]
    return [
        {"ours": our.side.name, "peer": their.side.name, **asdict(ratio(our.turns, their.turns, threads))}
        for our in ours
        for their in theirs
    ]
