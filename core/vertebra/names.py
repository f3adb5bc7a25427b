"""Names that people type: find the nearest, say what exists, and tell those of several tasks apart."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest known name, or an empty string when none is near."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the one message for a name that does not exist: the name, the nearest known one, and all that exist."""
    names = sorted(known)
    listed = ", ".join(names) if names else "none"
    return f"There is no {kind} '{name}'.{did_you_mean(name, names)} Known: {listed}."


def by_task(scores: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """Return what several tasks have by metric under names such as `ner.entity_f1`."""
    return {f"{task}.{metric}": value for task, some in scores.items() for metric, value in some.items()}
