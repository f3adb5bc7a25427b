"""Learning-rate schedules: the factor on the peak rate at each step, counted from 0."""

from __future__ import annotations

import math

DECAY = 0.2
"""The share of all steps in which `wsd` falls."""


def _warmup(step: int, warmup_steps: int) -> float | None:
    return (step + 1) / (warmup_steps + 1) if step < warmup_steps else None


def _progress(step: int, warmup_steps: int, total_steps: int) -> float:
    return min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))


def linear(step: int, warmup_steps: int, total_steps: int) -> float:
    """Rise in a line over the warm-up, then fall in a line towards 0."""
    rising = _warmup(step, warmup_steps)
    return 1.0 - _progress(step, warmup_steps, total_steps) if rising is None else rising


def cosine(step: int, warmup_steps: int, total_steps: int) -> float:
    """Rise in a line over the warm-up, then fall along half a cosine towards 0 (Loshchilov and Hutter, 2017)."""
    rising = _warmup(step, warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * _progress(step, warmup_steps, total_steps))) if rising is None else rising


def wsd(step: int, warmup_steps: int, total_steps: int) -> float:
    """Rise in a line over the warm-up, stay, and fall in a line towards 0 over the last fifth (Hu and others, 2024)."""
    rising = _warmup(step, warmup_steps)
    left = (total_steps - step) / max(1, round(DECAY * total_steps))
    return min(1.0, left) if rising is None else rising


def constant(step: int, warmup_steps: int, total_steps: int) -> float:
    """Rise in a line over the warm-up, then stay."""
    rising = _warmup(step, warmup_steps)
    return 1.0 if rising is None else rising
