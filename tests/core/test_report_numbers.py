"""How numbers are written."""

from __future__ import annotations

import pytest

from vertebra.report.numbers import count, duration, magnitude, percent, span


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (percent(0.62914), "62.91"),
        (percent(1), "100.00"),
        (percent(-0.5), "-50.00"),
        (span((0.615, 0.6425)), "61.5–64.2"),
        (duration(0.4), "0 s"),
        (duration(59.7), "1 min 00 s"),
        (duration(731.4), "12 min 11 s"),
        (duration(7620), "2 h 07 min"),
        (count(14041), "14,041"),
        (magnitude(950), "950"),
        (magnitude(4000), "4.0k"),
        (magnitude(11_214_336), "11.2M"),
        (magnitude(124_439_808), "124M"),
        (magnitude(1.236e9), "1.2B"),
    ],
)
def test_numbers_are_written_for_people(written: str, expected: str) -> None:
    assert written == expected
