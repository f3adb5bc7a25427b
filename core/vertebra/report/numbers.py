"""How numbers are written for people: the same on screen, in the progress display and in the report."""

from __future__ import annotations

from collections.abc import Sequence


def percent(score: float) -> str:
    """Write a score of 0…1 in percent with two digits: `62.91`."""
    return f"{100 * score:.2f}"


def span(interval: Sequence[float]) -> str:
    """Write an interval of two scores in percent with one digit: `61.5–64.2`."""
    low, high = interval
    return f"{100 * low:.1f}–{100 * high:.1f}"


def duration(seconds: float) -> str:
    """Write seconds by their two largest units: `42 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes_rest = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_rest:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{whole} s"


def count(number: float) -> str:
    """Write a whole number with thin separators, as `14,041`."""
    return f"{round(number):,}"


def magnitude(number: float) -> str:
    """Write a large number by three digits and a unit: `11.2M`, `124M`."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            value = number / size
            return f"{value:.0f}{unit}" if value >= 100 else f"{value:.1f}{unit}"
    return f"{number:.0f}"


def size(n_bytes: float) -> str:
    """Write a number of bytes in units of 1000: `4.9 MB`."""
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if n_bytes < 999.5:
            break
        n_bytes, unit = n_bytes / 1000, larger
    return f"{n_bytes:.3g} {unit}"
