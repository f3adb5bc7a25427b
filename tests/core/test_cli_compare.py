"""`vertebra compare`: what it finds between two runs, and what it refuses."""

from __future__ import annotations

import json
import random
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from made_runs import classify, make_trained

from vertebra.cli.compare import main
from vertebra.cli.main import main as vertebra
from vertebra.errors import DataError, RunError, VertebraError
from vertebra.statistics.paired import permutation_test


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return make_trained(folder / "weak", classify(0.6)), make_trained(folder / "strong", classify(0.95))


@pytest.fixture(autouse=True)
def fewer_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vertebra.runs.compare.permutation_test", partial(permutation_test, permutations=299))


def lines(run: Path, split: str = "test") -> list[dict[str, Any]]:
    read = [json.loads(line) for line in (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in read if line["split"] == split]


def compared(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def write_predictions(file: Path, predictions: dict[str, Any]) -> Path:
    written = [json.dumps({"id": name, "prediction": one}) for name, one in predictions.items()]
    file.write_text("\n".join(written) + "\n", encoding="utf-8")
    return file


def test_the_difference_is_that_of_the_runs_scores(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, *runs)
    scores = [json.loads((run / "metrics.json").read_text(encoding="utf-8"))["test"] for run in runs]
    assert [one["metric"] for one in found["metrics"]] == list(scores[0])
    for one in found["metrics"]:
        assert one["scores"] == pytest.approx([score[one["metric"]] for score in scores])
        assert one["difference"] == pytest.approx(one["scores"][1] - one["scores"][0])
        assert one["interval"][0] <= one["difference"] <= one["interval"][1]
    accuracy = found["metrics"][0]
    assert accuracy["test"] == "McNemar" and accuracy["p_value"] < 0.001 and accuracy["interval"][0] > 0
    assert found["metrics"][1]["test"] == "permutation" and found["metrics"][1]["p_value"] < 0.01
    right = [[line["right"] for line in lines(run)] for run in runs]
    assert found["won"] == sum(second and not first for first, second in zip(*right, strict=True))
    assert found["lost"] == sum(first and not second for first, second in zip(*right, strict=True))
    assert {one["label"] for one in found["labels"]} >= {"positive", "negative"}


def test_the_other_way_round_is_the_opposite(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    there, back = compared(capsys, *runs), compared(capsys, *reversed(runs))
    for one, other in zip(there["metrics"], back["metrics"], strict=True):
        assert one["difference"] == pytest.approx(-other["difference"])
        assert one["p_value"] == other["p_value"]
    assert (there["won"], there["lost"]) == (back["lost"], back["won"])


def test_a_run_does_not_differ_from_itself(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = compared(capsys, runs[0], runs[0])
    assert all(one["p_value"] == 1.0 and one["interval"] == [0.0, 0.0] for one in found["metrics"])
    assert found["won"] == found["lost"] == 0 and found["striking"] == []


def test_the_screen_shows_scores_labels_and_rows(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert vertebra(["compare", *map(str, runs), "--examples", "2", "--split", "valid"]) == 0
    shown = capsys.readouterr().out
    score = json.loads((runs[1] / "metrics.json").read_text(encoding="utf-8"))["valid"]["accuracy"]
    assert f"{100 * score:.2f}" in shown and "McNemar" in shown and "80 rows of valid" in shown
    assert "F1 by label" in shown
    assert shown.count("B is better (") == 2 and shown.count("A is better (") <= 2


def test_predictions_of_another_tool_stand_for_a_run(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = {line["id"]: line["prediction"] for line in lines(runs[1])}
    same = compared(capsys, *runs)
    shuffled = dict(random.Random(1).sample(sorted(whole.items()), len(whole)))
    found = compared(capsys, runs[0], "--predictions", write_predictions(tmp_path / "whole.jsonl", shuffled))
    assert found["metrics"] == same["metrics"] and (found["won"], found["lost"]) == (same["won"], same["lost"])
    labels = {name: one["label"] for name, one in whole.items()}
    found = compared(capsys, runs[0], "--predictions", write_predictions(tmp_path / "labels.jsonl", labels))
    assert found["metrics"][0] == same["metrics"][0]
    assert "calibration_error" not in [one["metric"] for one in found["metrics"]]
    assert any("calibration_error" in note for note in found["notes"])


def test_tags_are_taken_for_entities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def all_right(reference: Any, generator: random.Random, labels: list[str]) -> Any:
        return reference

    run = make_trained(tmp_path / "ner", all_right, task="ner", rows=40)
    tags = {line["id"]: ["O"] * len(line["input"]["tokens"]) for line in lines(run)}
    found = compared(capsys, run, "--predictions", write_predictions(tmp_path / "tags.jsonl", tags))
    assert found["metrics"][0]["metric"] == "entity_f1" and found["metrics"][0]["scores"] == [1.0, 0.0]


def test_other_data_are_refused_by_name(runs: tuple[Path, Path], tmp_path: Path) -> None:
    fewer = make_trained(tmp_path / "fewer", classify(0.9), rows=70)
    with pytest.raises(RunError, match=r"weak' and '.*fewer' were scored on different data: 80 and 70 rows of test"):
        main([str(runs[0]), str(fewer)])
    other = make_trained(tmp_path / "other", classify(0.9), data={"options": {"seed": 9}})
    with pytest.raises(RunError, match=r"weak' and '.*other' were scored on different data: row 'test-\S+' reads"):
        main([str(runs[0]), str(other)])
    task = make_trained(tmp_path / "task", lambda reference, *_: reference, task="ner", rows=20)
    with pytest.raises(RunError, match=r"is a run of task sentiment and .* one of ner: they cannot be compared"):
        main([str(runs[0]), str(task)])


def test_a_line_that_is_of_no_split_is_a_damaged_run(runs: tuple[Path, Path], tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(runs[0], tmp_path / "damaged"))
    with (damaged / "predictions.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "x"}\n')
    with pytest.raises(RunError, match=r"predictions.jsonl' is damaged: a line has no 'split'"):
        main([str(runs[0]), str(damaged)])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{nothing\n", "Line 1 of .* is not JSON"),
        ("[1]\n", "Line 1 of .* is no JSON object"),
        ('{"id": "test-1"}\n', "Line 1 of .* has no 'prediction'"),
        ('{"prediction": 1}\n', "Line 1 of .* has no 'id'"),
        (
            '{"id": "nobody", "prediction": "positive"}\n',
            "Line 1 of .* is for row 'nobody', which is not among the 80 rows",
        ),
        ("", "has no prediction for 80 of the 80 rows of test, such as 'test-"),
    ],
)
def test_broken_predictions_are_refused_by_line(
    runs: tuple[Path, Path], tmp_path: Path, content: str, said: str
) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        main([str(runs[0]), "--predictions", str(file)])


def test_a_second_prediction_and_another_form_are_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    names = [line["id"] for line in lines(runs[0])]
    file = write_predictions(tmp_path / "twice.jsonl", dict.fromkeys(names, "positive"))
    file.write_text(file.read_text(encoding="utf-8") * 2, encoding="utf-8")
    with pytest.raises(DataError, match=f"Line 81 of .* gives row '{names[0]}' a second prediction"):
        main([str(runs[0]), "--predictions", str(file)])
    file = write_predictions(tmp_path / "form.jsonl", {name: {"score": 3} for name in names})
    with pytest.raises(
        DataError,
        match=r'cannot be scored by accuracy .*: \{"score": 3\}\. Predictions of task .sentiment. look like \{',
    ):
        main([str(runs[0]), "--predictions", str(file)])


def test_one_run_alone_and_no_run_at_all_are_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(VertebraError, match="give either a second run, RUN_B, or --predictions FILE"):
        main([str(runs[0])])
    with pytest.raises(RunError, match="There is no run folder"):
        main([str(runs[0]), str(tmp_path / "nothing")])
