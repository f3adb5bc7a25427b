"""What an author meets of the kit: which promises are tried, what an error says, what it needs to be told."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kit_plugin import FILES, MUTANTS, installed
from torch import nn

from vertebra.testing import PROMISES, BrokenPromisesError, check_task
from vertebra.testing.checks.bad_rows import parallel
from vertebra.testing.checks.multirun import spelled
from vertebra.testing.gold import descend
from vertebra.testing.kit import chosen
from vertebra.testing.likeness import alike, says

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def test_the_package_imports_nothing_heavy() -> None:
    program = (
        "import sys, vertebra.testing, vertebra.testing.promises, vertebra.testing.pytest_plugin\n"
        "assert not {'torch', 'transformers', 'numpy', 'hydra', 'pydantic'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_promise_has_a_check_and_a_line_that_says_it() -> None:
    assert len({promise.name for promise in PROMISES}) == len(PROMISES)
    for promise in PROMISES:
        assert callable(promise.load()) and promise.says


def test_promises_are_chosen_by_name_and_skipped_with_a_reason() -> None:
    assert [promise.name for promise in chosen(["batches", "columns"], {})] == ["columns", "batches"]
    assert "resume" not in {promise.name for promise in chosen((), {"resume": "it draws at random, on purpose"})}
    with pytest.raises(ValueError, match=r"There is no promise 'colums'. Did you mean 'columns'"):
        check_task("tagger", only=["colums"])
    with pytest.raises(ValueError, match="skipped without a reason"):
        check_task("tagger", skip={"resume": " "})


def test_a_task_that_nobody_registers_is_said_to_be_missing() -> None:
    with pytest.raises(BrokenPromisesError, match=r"There is no task 'tager'.*\n.*pip install -e") as caught:
        check_task("tager", only=["registered"])
    assert list(caught.value.breaches) == ["registered"]
    assert isinstance(caught.value, AssertionError)


def test_a_class_is_as_good_as_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with installed(FILES, tmp_path, monkeypatch):
        from tagger.task import Tagger  # type: ignore[import-not-found]

        check_task(Tagger, only=["registered", "settings"])

        class Other(Tagger):  # type: ignore[misc]
            pass

        with pytest.raises(BrokenPromisesError, match="is not the given class"):
            check_task(Other, only=["registered"])


def test_all_that_is_broken_stands_in_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = {mutant.name: mutant for mutant in MUTANTS}
    files = some["a setting that is not declared"].files() | {
        "tagger/metrics.py": some["swapped arguments"].files()["tagger/metrics.py"]
    }
    with installed(files, tmp_path, monkeypatch), pytest.raises(BrokenPromisesError) as caught:
        check_task("tagger", only=["settings", "metrics", "loss"])
    error = caught.value
    # No head can be built, so nothing can be evaluated: the first that needs it says so, and no other repeats it.
    assert list(error.breaches) == ["settings", "metrics"] and list(error.unchecked) == ["loss"]
    text = str(error)
    assert (
        "Task 'tagger' breaks 2 promises." in text and text.count("usual cause:") == 3
    )  # and nothing reads the setting that is meant
    assert "'TaggerConfig' object has no attribute 'droput'" in text


def test_a_known_score_that_is_missed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with installed(FILES, tmp_path, monkeypatch), pytest.raises(BrokenPromisesError, match=r"is 0.5, and should be 1"):
        check_task("tagger", only=["metrics"], known_scores=[("tag_recall", [["A", "O"]], [["A", "B"]], 1.0)])


def test_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "own cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = torch.random.get_rng_state()
    with installed(FILES, tmp_path, monkeypatch):
        check_task("tagger", only=["encode", "loss", "batches"])
    assert torch.equal(before, torch.random.get_rng_state())
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["site"]
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@given(JSON)
def test_what_is_the_same_is_alike(value: Any) -> None:
    assert alike(value, value) and says(value, value)


@given(JSON, JSON)
def test_alike_is_symmetric(one: Any, other: Any) -> None:
    assert alike(one, other) == alike(other, one)


@pytest.mark.parametrize(
    ("prediction", "reference", "same"),
    [
        ({"label": "a", "sure": 0.9}, {"label": "a"}, True),
        ({"label": "a"}, {"label": "b"}, False),
        ({"label": "a"}, {"tag": "a"}, False),
        ([1.001, 2.0], [1.0, 2.0], True),
        ([1.1, 2.0], [1.0, 2.0], False),
        (["a"], ["a", "a"], False),
        ("b", ["a", "b"], True),
        (3, "3", False),
    ],
)
def test_a_prediction_says_what_a_reference_says(prediction: Any, reference: Any, same: bool) -> None:
    assert says(prediction, reference) is same


def test_the_best_outputs_are_where_the_loss_is_least() -> None:
    class Squares:
        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return nn.functional.mse_loss(outputs.squeeze(1), targets)

    targets = torch.tensor([-3.0, 0.5, 7.0])
    best = descend(Squares(), torch.zeros(3, 1), targets)  # type: ignore[arg-type]
    torch.testing.assert_close(best.squeeze(1), targets, rtol=0, atol=1e-2)


@given(st.recursive(st.text() | st.integers() | st.booleans() | st.none(), lambda inner: st.lists(inner, max_size=3)))
def test_a_value_is_spelled_so_that_hydra_reads_it(value: Any) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if any(letter in str(value) for letter in "\n\r\\"):  # no setting of the core's has these
        return
    assert OverridesParser.create().parse_override(f"key={spelled(value)}").value() == value


def test_lists_of_one_length_belong_together() -> None:
    columns = {"one": list, "two": list, "three": list, "text": str}
    rows = [{"one": [0] * n, "two": [1] * n, "three": [2], "text": "x"} for n in (2, 3)]
    assert list(parallel(rows, columns)) == [("one", "two")]
    assert list(parallel(rows[:1] * 2, columns)) == []  # always two: nobody knows whether they belong together


def test_numbers_that_are_nearly_the_same_are_alike() -> None:
    assert alike([np.float64(1.0)], [1.0 + 1e-6]) and not alike(1.0, 1.01)
    assert not alike(math.nan, 1.0) and not alike("1", 1.0)
