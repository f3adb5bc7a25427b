"""The table at the end of a run, as a terminal and as a file would show it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from vertebra.report.screen import print_scores

METRICS = {"valid": {"entity_f1": 0.6413, "precision": 0.7}, "test": {"entity_f1": 0.6291, "token_macro_f1": 0.92}}
INTERVALS = {"test": {"entity_f1": [0.615, 0.6425]}, "valid": {"entity_f1": [0.627, 0.655]}}


BASELINES = {
    name: {
        "summary": "a summary",
        "seconds": 0.1,
        "scores": {"test": {"entity_f1": score}, "valid": {"entity_f1": 0.5}},
    }
    for name, score in (("most frequent tag", 0.4321), ("known entities", 0.5961), ("CRF", 0.8301))
}


def shown(
    metrics: dict,
    folder: Path,
    *,
    notes: tuple[str, ...] = (),
    terminal: bool = False,
    width: int = 80,
    baselines: dict | None = None,
) -> str:
    stream = io.StringIO()
    colours = "standard" if terminal else "auto"
    console = Console(file=stream, width=width, force_terminal=terminal, color_system=colours, highlight=False)
    print_scores(metrics, INTERVALS, notes, folder, console, baselines)
    return stream.getvalue()


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def test_scores_stand_in_percent_with_their_intervals_test_first(tmp_path: Path) -> None:
    head, _, *table, _ = rows(shown(METRICS, tmp_path))
    assert head == ["percent", "model"]
    assert table == [
        ["test"],
        ["entity_f1", "62.91", "61.5–64.2"],
        ["token_macro_f1", "92.00"],
        ["valid"],
        ["entity_f1", "64.13", "62.7–65.5"],
        ["precision", "70.00"],
    ]


def test_baselines_stand_beside_the_model(tmp_path: Path) -> None:
    text = shown(METRICS, Path("runs/x"), baselines=BASELINES)
    head, _, *table, _ = rows(text)
    assert head == ["percent", "most", "frequent", "tag", "known", "entities", "CRF", "model"]
    assert table[1] == ["entity_f1", "43.21", "59.61", "83.01", "62.91", "61.5–64.2"]
    assert table[2] == ["token_macro_f1", "-", "-", "-", "92.00"]
    *above, _ = text.splitlines()  # the last line is a path
    assert max(map(len, above)) <= 80
    assert "valid" not in shown({"test": METRICS["test"]}, tmp_path, baselines=BASELINES)


def test_what_only_the_model_has_stands_where_the_model_has_it(tmp_path: Path) -> None:
    scores = {"test": {"mean_score": 0.5, "ner.f1": 0.4, "qa.f1": 0.6}}
    best = {"best baseline": {"scores": {"test": {"qa.f1": 0.3}}}}
    head, _, *table, _ = rows(shown(scores, tmp_path, baselines=best))
    assert head == ["percent", "best", "baseline", "model"]
    assert table == [["test"], ["mean_score", "-", "50.00"], ["ner.f1", "-", "40.00"], ["qa.f1", "30.00", "60.00"]]


def test_in_a_narrow_window_intervals_go_and_scores_stay(tmp_path: Path) -> None:
    text = shown(METRICS, tmp_path, baselines=BASELINES, width=50)
    assert ["entity_f1", "43.21", "59.61", "83.01", "62.91"] in rows(text)


def test_it_fits_eighty_columns_and_has_no_colour_codes_in_a_file(tmp_path: Path) -> None:
    long_name = {"test": {"a_metric_with_a_very_long_name_that_does_not_fit_into_its_column_at_all_oh_no": 0.5}}
    for metrics in (METRICS, long_name):
        text = shown(metrics, Path("runs/x"))
        assert "\x1b" not in text
        assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b" in shown(METRICS, tmp_path, terminal=True)


def test_notes_and_markup_in_names_are_printed_as_they_are(tmp_path: Path) -> None:
    text = shown({"test": {"f1[bold]": 0.5}}, tmp_path, notes=("random weights [red]",))
    assert "f1[bold]" in text
    assert "Note: random weights [red]" in text


def test_it_says_where_the_report_lies_in_one_piece_that_can_be_copied(tmp_path: Path) -> None:
    folder = tmp_path / ("deep " * 20).strip()
    folder.mkdir()
    assert f"Run folder: {folder}\n" in shown(METRICS, folder)
    (folder / "report.html").touch()
    assert f"Report: {folder / 'report.html'}\n" in shown(METRICS, folder)


def test_a_run_without_scores_says_so(tmp_path: Path) -> None:
    assert "No scores." in shown({}, tmp_path)
    assert "No scores." in shown({"test": {}}, tmp_path)


def test_it_writes_to_standard_output_by_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_scores(METRICS, INTERVALS, (), tmp_path)
    assert "62.91" in capsys.readouterr().out
