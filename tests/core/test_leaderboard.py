"""Leaderboards: what they say of made runs, in each form; the page in a real browser."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import classify, make_trained

from vertebra.cli.main import main
from vertebra.report.leaderboard import as_markdown, render
from vertebra.report.leaderboard_plots import importance
from vertebra.report.scale import Scale
from vertebra.runs.folder import RunFolder
from vertebra.runs.leaderboard import Leaderboard, Pair, Result, SweptRun, SystemLine, TaskBoard

sys.path.insert(0, str(Path(__file__).parents[1]))
from browser import CHROMIUM, Page, browser

SYSTEMS = {"weak": 0.55, "middle": 0.75, "strong": 0.97}
CONTEXTS = {"weak": 64, "middle": 128, "strong": 256}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports of three systems with two seeds on two tasks."""
    folder = tmp_path_factory.mktemp("board") / "runs"
    for name, quality in SYSTEMS.items():
        for seed in (1, 2):
            for task in ("sentiment", "classification"):
                backbone = {"option": "nano", "context": CONTEXTS[name]}
                make_trained(
                    folder / f"{name}-{task}-{seed}",
                    classify(quality),
                    task=task,
                    seed=seed,
                    rows=60,
                    backbone=backbone,
                )
    assert main(["leaderboard", str(folder), "--title", "Made <runs>"]) == 0
    return folder


def document(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
    return read


def test_runs_that_differ_by_seed_alone_are_one_system(board: Path) -> None:
    found = document(board)
    assert [task["name"] for task in found["tasks"]] == ["classification", "sentiment"]
    for task in found["tasks"]:
        assert [one["system"] for one in task["results"]] == ["context=256", "context=128", "context=64"]
        for one in task["results"]:
            assert sorted(one["scores"]) == ["1", "2"]
            assert one["mean"] == pytest.approx(np.mean(list(one["scores"].values())))
            assert one["interval"][0] <= one["mean"] <= one["interval"][1]
            assert one["cost"]["wall_seconds"] == 12.0
        assert [one["name"] for one in task["baselines"]] == ["majority"]


def test_the_same_run_made_twice_is_no_second_seed(board: Path, tmp_path: Path) -> None:
    runs = [board / "weak-sentiment-1", board / "strong-sentiment-1"]
    again = shutil.copytree(runs[0], tmp_path / "again")
    arguments = ["leaderboard", *map(str, [*runs, again]), "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    found = document(tmp_path / "out")
    assert [list(one["scores"]) for one in found["tasks"][0]["results"]] == [["1"], ["1"]]
    assert found["notes"] == [f"'{again}' is left out: it is the run in '{runs[0]}', made once more"]


def test_scores_are_those_of_the_runs(board: Path) -> None:
    task = next(task for task in document(board)["tasks"] if task["name"] == "sentiment")
    strong = task["results"][0]["scores"]
    for seed in ("1", "2"):
        metrics = json.loads((board / f"strong-sentiment-{seed}" / "metrics.json").read_text(encoding="utf-8"))
        assert strong[seed] == pytest.approx(metrics["test"]["accuracy"])


def test_pairs_are_tested_and_corrected(board: Path) -> None:
    for task in document(board)["tasks"]:
        assert len(task["pairs"]) == 3
        for pair in task["pairs"]:
            assert pair["p_value"] <= pair["adjusted"] <= 1
            assert pair["test"] == "seeds and examples"
            assert pair["difference"] >= 0
            assert pair["interval"][0] <= pair["difference"] <= pair["interval"][1]


def test_the_best_system_ranks_first(board: Path) -> None:
    found = document(board)
    assert [one["name"] for one in found["systems"]] == ["context=256", "context=128", "context=64"]
    assert [one["average_rank"] for one in found["systems"]] == [1.0, 2.0, 3.0]
    assert found["systems"][0]["normalised"] == 1.0
    assert found["systems"][0]["cost"]["wall_seconds"] == 24.0
    assert found["ranks"]["tasks"] == 2 and found["ranks"]["critical_difference"] > 2


def test_the_csv_has_every_score(board: Path) -> None:
    rows = list(csv.DictReader((board / "leaderboard.csv").read_text(encoding="utf-8").splitlines()))
    kinds = [row["kind"] for row in rows]
    assert (kinds.count("seed"), kinds.count("mean"), kinds.count("baseline")) == (12, 6, 2)
    means = {(row["task"], row["system"]): float(row["score"]) for row in rows if row["kind"] == "mean"}
    for task in document(board)["tasks"]:
        for one in task["results"]:
            assert means[task["name"], one["system"]] == one["mean"]


def test_the_markdown_has_the_tables(board: Path) -> None:
    text = (board / "leaderboard.md").read_text(encoding="utf-8")
    best = document(board)["tasks"][1]["results"][0]
    assert f"**{100 * best['mean']:.2f}**" in text and "| 40.00 (majority) |" in text
    tables = [line for line in text.splitlines() if line.startswith("| system")]
    assert tables == ["| system | normalised | rank | time | CPU time | tokens/s | memory | trained |"]


def test_the_page_asks_for_nothing_and_escapes_titles(board: Path) -> None:
    page = (board / "leaderboard.html").read_text(encoding="utf-8")
    assert "Made &lt;runs&gt;" in page and "<runs>" not in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    assert page.count("<svg") == 3 and "script-src 'sha256-" in page


def test_predictions_of_other_tools_are_systems(board: Path, tmp_path: Path) -> None:
    read = (board / "weak-sentiment-1" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, read) if row["split"] == "test"]
    file = tmp_path / "oracle.jsonl"
    lines = [json.dumps({"id": row["id"], "prediction": row["reference"]["label"]}) + "\n" for row in rows]
    file.write_text("".join(lines), encoding="utf-8")
    folders = [str(board / f"weak-sentiment-{seed}") for seed in (1, 2)]
    arguments = ["leaderboard", *folders, "--output", str(tmp_path / "out")]
    assert main([*arguments, "--predictions", "oracle", "sentiment", str(file)]) == 0
    task = document(tmp_path / "out")["tasks"][0]
    assert (task["results"][0]["system"], task["results"][0]["mean"]) == ("oracle", 1.0)
    assert task["pairs"][0]["adjusted"] < 0.05


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "There is no folder 'nowhere'"),
        (["{empty}"], "There is no finished run in"),
        (
            ["{board}", "--predictions", "x", "sentimnt", "f"],
            "There is no task of this leaderboard 'sentimnt'. Did you mean",
        ),
        (["{board}", "--predictions", "x", "sentiment", "f.jsonl"], "There is no file or folder 'f.jsonl'"),
        (["{board}/weak-sentiment-1", "{other}"], "were scored on different data: 60 and 50 rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    board: Path, tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    if "{other}" in arguments:
        make_trained(tmp_path / "other", classify(0.9), rows=50)
    places = {"board": board, "empty": tmp_path / "empty", "other": tmp_path / "other"}
    output = ["--output", str(tmp_path / "out")]
    assert main(["leaderboard", *(one.format(**places) for one in arguments), *output]) == 2
    assert said in capsys.readouterr().err


def test_a_damaged_run_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_trained(tmp_path / "one", classify(0.9), rows=20)
    RunFolder(run).update_state(format=99)
    assert main(["leaderboard", str(tmp_path)]) == 2
    assert f"'{run}' has format 99; this version reads 1. Upgrade vertebra." in capsys.readouterr().err


def test_runs_is_where_it_looks_by_itself(
    board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(board.parent)
    assert main(["leaderboard", "--output", str(tmp_path / "board")]) == 0
    assert document(tmp_path / "board")["tasks"] == document(board)["tasks"]
    monkeypatch.chdir(tmp_path)
    assert main(["leaderboard"]) == 2
    assert "There is no folder 'runs'" in capsys.readouterr().err


# --- the page of a large board, made without runs


def large_board(systems: int = 10, tasks: int = 6) -> Leaderboard:
    names = [f"a system with a rather long name {number} backbone=gpt2 adapter=lora" for number in range(systems)]
    boards = []
    for task in range(tasks):
        results = [
            Result(name, {str(seed): 0.9 - place / 20 + seed / 500 for seed in (1, 2, 3)}, 0.9 - place / 20,
                   (0.88 - place / 20, 0.92 - place / 20), {"wall_seconds": 10.0 * 1.7**place, "tokens_per_second": 1e4},
                   [(step, 0.5 + 0.001 * step - place / 50) for step in (50, 100, 150)])
            for place, name in enumerate(names)
        ]  # fmt: skip
        pairs = [Pair(names[0], name, 0.05, (0.01, 0.09), 0.004, 0.03, "seeds and examples") for name in names[1:]]
        boards.append(
            TaskBoard(f"task-{task}/with_a_long_data_name", "task", "f1", True, "test", 3453, results, [], pairs)
        )
    lines = [
        SystemLine(name, tasks, 1.0 + place, 1 - place / systems, {"wall_seconds": 100.0 + place})
        for place, name in enumerate(names)
    ]
    runs = [
        SweptRun(
            boards[0].name, {"learning_rate": rate, "optimizer": name, "epochs": epochs}, 0.5 + 100 * rate + epochs / 90
        )
        for rate in (1e-4, 3e-4, 1e-3)
        for name in ("adamw", "sgd")
        for epochs in (1, 2)
    ]
    ranks = {"tasks": tasks, "friedman_p": 1e-4, "critical_difference": 5.5, "alike": [names[:6], names[3:9]]}
    return Leaderboard("A large board", "2026-11-22T10:00:00+00:00", boards, lines, ranks, runs, ["a note"])


def test_the_settings_that_matter_are_found() -> None:
    runs = [
        SweptRun("task", {"rate": rate, "name": name}, rate + (0.01 if name == "b" else 0))
        for rate in (0.1, 0.2, 0.3, 0.4)
        for name in ("a", "b")
    ]
    found = importance(runs)
    assert sum(found.values()) == pytest.approx(1)
    assert found["rate"] > 0.9
    assert importance(runs[:4]) == {} == importance([SweptRun("task", {"rate": 1}, 0.5)] * 8)


def test_a_board_of_one_system_has_no_tests() -> None:
    whole = large_board(1, 1)
    alone = Leaderboard(whole.title, whole.made, whole.tasks, whole.systems, None, [], [])
    page = render(alone, Scale())
    assert "Ranks are tested from two tasks and three systems on" in page
    assert as_markdown(alone, Scale()).count("| ") > 4


# --- in a browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium to look at pages with")
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


COLUMN = "[...document.querySelectorAll('#systems-table tbody tr')].map((row) => row.cells[{0}].dataset.value)"


def test_a_click_sorts_a_table_and_a_second_one_turns_it_round(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "board.html"
    file.write_text(render(large_board(), Scale()), encoding="utf-8")
    page.open(file)
    for column in (2, 4):
        values = []
        for order in ("ascending", "descending"):
            page.run(f"document.querySelectorAll('#systems-table thead button')[{column}].click()")
            values = [float(value) for value in page.run(COLUMN.format(column))]
            assert values == sorted(values, reverse=order == "descending")
            assert page.run(f"document.querySelectorAll('#systems-table thead th')[{column}].ariaSort") == order
        assert len(set(values)) == 10
    assert page.run("document.querySelectorAll('#systems-table [aria-sort]').length") == 1
    page.run("document.querySelector('#systems-table thead button').click()")
    names = page.run("[...document.querySelectorAll('#systems-table tbody th')].map((one) => one.dataset.value)")
    assert names == sorted(names)


@pytest.mark.parametrize("width", [1280, 420])
def test_nothing_overflows_and_no_request_leaves(page: Page, board: Path, tmp_path: Path, width: int) -> None:
    large = tmp_path / "board.html"
    large.write_text(render(large_board(), Scale()), encoding="utf-8")
    for file in (large, board / "leaderboard.html"):
        page.open(file, width)
        assert page.run("document.documentElement.scrollWidth") <= width
        assert (
            page.run(
                """[...document.querySelectorAll("section, h1, h2, .scroll, figcaption, nav, .note")]
               .filter((one) => one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 80))"""
            )
            == []
        )
        assert (
            page.run(
                """[...document.querySelectorAll("svg.curve")].flatMap((svg) => {
                 const box = svg.getBoundingClientRect();
                 return [...svg.querySelectorAll("text")].filter((text) => {
                   const own = text.getBoundingClientRect();
                   return own.left < box.left - 2 || own.right > box.right + 2
                     || own.top < box.top - 2 || own.bottom > box.bottom + 2;
                 }).map((text) => `${svg.id}: ${text.textContent}`);
               })"""
            )
            == []
        )
        assert page.requests == [file.resolve().as_uri()]
        assert page.errors == []


LETTERS = """[...document.querySelectorAll("svg.curve")].map((svg) =>
  [...svg.querySelectorAll("text")].map((text) => text.getBoundingClientRect().height).reduce((a, b) => Math.max(a, b)))"""


@pytest.mark.parametrize(("systems", "tasks"), [(1, 1), (3, 2), (10, 6)])
def test_letters_of_plots_are_those_of_the_page(page: Page, tmp_path: Path, systems: int, tasks: int) -> None:
    board, file = large_board(systems, tasks), tmp_path / "board.html"
    file.write_text(render(board if systems > 9 else replace(board, ranks=None), Scale()), encoding="utf-8")
    page.open(file)
    line = page.run("parseFloat(getComputedStyle(document.body).fontSize)")
    heights = page.run(LETTERS)
    assert len(heights) >= 2
    assert all(0.7 * line < height < 1.3 * line for height in heights), (line, heights)


def test_a_system_alone_does_not_stand_out(board: Path, tmp_path: Path) -> None:
    assert main(["leaderboard", *map(str, board.glob("strong-*")), "--output", str(tmp_path)]) == 0
    text = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    assert "| sentiment, " in text and "**" not in text and "bold" not in text
    page = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert "Bold:" not in page and 'class="score best' not in page
