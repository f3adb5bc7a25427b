"""Measuring: turns, medians, processes of their own, reports and their tables."""

from __future__ import annotations

import json
import os
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vertebra.errors import RunError
from vertebra_speed.comparison import Measured, Side, unlike
from vertebra_speed.markdown import performance
from vertebra_speed.measure import Spread, Turn, rates, ratio, take_turns
from vertebra_speed.options import Options
from vertebra_speed.report import make_report
from vertebra_speed.table import grids, print_report
from vertebra_speed.worker import Worker, run_once

TURNS = [Turn(wall=4.0, cpu=2.0, tokens=100, steps=2), Turn(wall=2.0, cpu=1.0, tokens=100, steps=2)]
TWICE = [Turn(wall=1.0, cpu=1.0, tokens=100, steps=2), Turn(wall=1.0, cpu=0.25, tokens=100, steps=2)]


def test_one_thread_counts_the_processors_seconds_and_several_the_clocks() -> None:
    assert rates(TURNS, threads=1) == [50.0, 100.0]
    assert rates(TURNS, threads=2) == [25.0, 50.0]


def test_a_ratio_compares_turns_of_the_same_round() -> None:
    assert ratio(TWICE, TURNS, threads=1) == Spread(3.0, 2.0, 4.0)


@given(st.lists(st.floats(0.1, 1e6), min_size=1))
def test_a_spread_holds_its_median(values: list[float]) -> None:
    found = Spread.of(values)
    assert min(values) == found.least <= found.median <= found.most == max(values)


def test_sides_take_turns_and_every_other_round_goes_the_other_way() -> None:
    order: list[str] = []
    workers: Any = {"a": "a", "b": "b", "c": "c"}

    def run(worker: Any, number: int) -> dict[str, Any]:
        return {"wall": 1.0, "cpu": 1.0, "tokens": number, "steps": 1}

    turns = take_turns(workers, 3, run, order.append)
    assert order == [*"abc", *"cba", *"abc"]
    assert {name: [turn.tokens for turn in some] for name, some in turns.items()} == {name: [0, 1, 2] for name in "abc"}


# --- processes


def test_a_worker_keeps_its_object_and_what_it_prints_is_no_reply() -> None:
    with Worker("speed_sides:Adder", {"start": 1}, threads=1) as worker:
        first, second = worker.call("add", number=2), worker.call("add", number=3)
    assert (first["sum"], second["sum"]) == (3, 6)
    assert first["process"] == second["process"] != os.getpid()


def test_threads_stand_in_the_environment_before_anything_is_imported() -> None:
    assert run_once("speed_sides:environment", {}, threads=3)["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("fail", r"^speed: speed_sides:Adder failed: KeyError: 'over\\nhere'\.$"),
        ("refuse", "^speed: The data is not there. Give other data.$"),
        ("die", "by signal 9; it was killed, perhaps for memory.*Try a smaller --shape"),
    ],
)
def test_a_side_that_fails_says_why_in_one_line(method: str, said: str) -> None:
    with (
        Worker("speed_sides:Adder", {"start": 0}, threads=1) as worker,
        pytest.raises(RunError, match=said) as caught,
    ):
        worker.call(method)
    assert "\n" not in str(caught.value)


def test_a_side_that_cannot_be_made_says_why() -> None:
    with pytest.raises(RunError, match=r"ModuleNotFoundError: No module named 'vertebra_speed\.nowhere'"):
        run_once("vertebra_speed.nowhere:x", {}, threads=1)


# --- reports


def side(name: str, precision: str, *, ours: bool = False) -> Side:
    return Side(name, "x:y", {}, precision, ours)


@pytest.fixture
def report() -> dict[str, Any]:
    memory = {"resident": 3 * 2**20, "gpu": 0}
    measured = [
        Measured(side("theirs", "bf16"), TURNS, memory, {"labels": [1, 2, 0]}),
        Measured(side("exact", "fp32"), TURNS, memory, {"labels": [1, 2, 3]}),
        Measured(side("Vertebra", "fp32", ours=True), TWICE, memory, {"labels": [1, 2, 3]}),
    ]
    machine = {"cpu": "a processor", "cores": 2, "memory_gib": 8.0, "gpu": "none"}
    versions = dict.fromkeys(("vertebra", "torch", "transformers", "accelerate", "python"), "1.0")
    work = {"environment": machine | versions, "family": "gpt2", "parameters": 1_500_000, "data": "my|data"}
    made = make_report(
        "train",
        Options(),
        work,
        measured,
        unit="step",
        ceiling={"fp32": 1000.0, "bf16": 2000.0},
        operations_a_token=2.0,
        differences=unlike(measured, "labels", "labels"),
        notes=["A note."],
    )
    return json.loads(json.dumps(made | {"line": "vertebra speed train"}))  # type: ignore[no-any-return]


def test_a_report_holds_medians_ratios_shares_and_every_turn(report: dict[str, Any]) -> None:
    theirs, _, ours = report["sides"]
    assert ours["tokens_a_second"] == {"median": 250.0, "least": 100.0, "most": 400.0}
    assert ours["share_of_ceiling"] == 0.5
    assert theirs["share_of_ceiling"] == 0.075
    assert [turn["cpu"] for turn in theirs["turns"]] == [2.0, 1.0]
    assert [(one["ours"], one["peer"], one["median"]) for one in report["ratios"]] == [
        ("Vertebra", "theirs", 3.0),
        ("Vertebra", "exact", 3.0),
    ]


def test_outcomes_are_compared_with_the_first_side_in_fp32(report: dict[str, Any]) -> None:
    assert report["differences"] == {
        "theirs": {"labels unlike those of exact": "1 of 3"},
        "Vertebra": {"labels unlike those of exact": "0 of 3"},
    }


def test_the_screen_shows_all_tables_and_notes(report: dict[str, Any]) -> None:
    console = Console(record=True, file=StringIO())
    print_report(report, console)
    text = console.export_text()
    for expected in ("train: gpt2 12x768 (1.5M parameters)", "Vertebra : exact", "3.00", "A note.", "1 of 3", "50%"):
        assert expected in text


def test_the_page_has_each_report_under_its_machine(report: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(report))
    (tmp_path / "b.json").write_text(json.dumps(report | {"date": "2020-01-01"}))
    page = performance(tmp_path)
    assert page.index(report["date"]) < page.index("2020-01-01")
    assert page.count("a processor, 2 cores, 8.0 GiB; vertebra 1.0") == 2
    assert page.count("\nvertebra speed train") == 2
    assert page.count("| Vertebra : exact | 3.00 | 2.00–4.00 |") == 2
    for grid in grids(report):
        assert all(len(row) == len(grid.columns) for row in grid.rows)
