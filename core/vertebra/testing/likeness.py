"""Whether two predictions say the same, up to the rounding of floating-point numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def alike(one: Any, other: Any, tolerance: float = 1e-4) -> bool:
    """Whether both have the same form and values; numbers may differ by `tolerance`, absolute and relative."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(alike(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(alike(*pair, tolerance) for pair in zip(one, other, strict=True))
    if isinstance(one, float) or isinstance(other, float):
        try:
            return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
        except TypeError:
            return False
    return bool(one == other)


def says(prediction: Any, reference: Any, tolerance: float = 1e-2) -> bool:
    """Whether a prediction says what a reference says; each may say more than the other, such as how sure it is."""
    if isinstance(prediction, Mapping) and isinstance(reference, Mapping):
        common = prediction.keys() & reference.keys()
        if not common:
            return bool(prediction == reference)
        return all(says(prediction[key], reference[key], tolerance) for key in common)
    if isinstance(prediction, list) and isinstance(reference, list):
        pairs = zip(prediction, reference, strict=False)
        return len(prediction) == len(reference) and all(says(*pair, tolerance) for pair in pairs)
    if isinstance(reference, list) and isinstance(prediction, str):  # one of several right answers
        return prediction in reference
    return alike(prediction, reference, tolerance)


def brief(value: Any, width: int = 70) -> str:
    """Return a value in a line of a message."""
    text = repr(value)
    return text if len(text) <= width else f"{text[: width - 1]}…"
