"""A leaderboard on the screen says all numbers whole, however narrow the screen is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from test_leaderboard import large_board

from vertebra.report.leaderboard import Grid, written
from vertebra.report.leaderboard_screen import fitting, in_lines, show
from vertebra.report.scale import Scale


def lines_of(grid: Grid, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(fitting(grid, console))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 120, 300])
def test_numbers_are_whole_and_lines_fit(width: int) -> None:
    for part in written(large_board(3, 4), Scale()):
        if not isinstance(part, Grid):
            continue
        lines = lines_of(part, width)
        assert all(len(line) <= width for line in lines)
        for row in part.rows:
            for number in row[part.names :]:
                assert any(number.replace("**", "") in line for line in lines), (number, width)


def test_names_go_on_in_the_next_line_before_a_number_gives_way() -> None:
    grid = Grid(["system", "time"], [["backbone=hf,adapter=lora", "12 min 05 s"], ["plain", "3 min 00 s"]])
    assert lines_of(grid, 60)[2].split("  ") == ["backbone=hf,adapter=lora", "12 min 05 s"]
    narrow = lines_of(grid, 24)
    assert "12 min 05 s" in narrow[2] and "".join(line[:11].strip() for line in narrow[2:5]).startswith(
        "backbone=hf,adapter=lora"
    )


def test_where_numbers_are_too_many_each_has_a_line() -> None:
    grid = Grid(["task", *"abcdef"], [["ner", *["81.33 (80.1–82.4)"] * 6]])
    assert len(in_lines(grid).rows) == 6 and in_lines(grid).rows[0] == ["ner", "a", "81.33 (80.1–82.4)"]
    assert sum("81.33 (80.1–82.4)" in line for line in lines_of(grid, 80)) == 6


def test_what_stands_out_is_bold_and_has_no_asterisks() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with console.capture() as capture:
        console.print(fitting(Grid(["task", "a"], [["ner", "**81.33** (80.1–82.4)"]]), console))
    assert "**" not in capture.get() and "\x1b[1m81.33" in capture.get()


def test_the_title_comes_first() -> None:
    console = Console(file=io.StringIO(), width=80)
    with console.capture() as capture:
        show(large_board(2, 2), Scale(), console)
    assert capture.get().startswith(large_board(2, 2).title)
