"""Baselines of any task: computed with the task's own metrics, cached, and never in a run's way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vertebra import Baseline, Metric, TokenClassification
from vertebra.data.load import Splits, fingerprint
from vertebra.metrics.bootstrap import interval
from vertebra.metrics.metric import count
from vertebra.runs.baselines import BaselineCache, compute
from vertebra.tasks.frequent_tag import MostFrequentTag, most_frequent
from vertebra.tasks.task import Row

ROWS = {
    "train": [
        {"id": "a", "tokens": ["the", "dog", "runs"], "tags": ["D", "N", "V"]},
        {"id": "b", "tokens": ["the", "runs"], "tags": ["D", "N"]},
        {"id": "c", "tokens": ["a", "dog", "runs"], "tags": ["D", "N", "V"]},
        {"id": "d", "tokens": ["dog", "dogs"], "tags": ["N", "N"]},
    ],
    "valid": [{"id": "e", "tokens": ["the", "cat"], "tags": ["D", "N"]}],
    "test": [
        {"id": "f", "tokens": ["a", "dog", "runs"], "tags": ["D", "N", "V"]},
        {"id": "g", "tokens": ["it", "runs"], "tags": ["P", "V"]},
    ],
}


class Share(Metric):
    """The share of right words."""

    name = "share"

    def count(self, prediction: Any, reference: Any) -> tuple[float, ...]:
        return sum(map(str.__eq__, prediction, reference)), len(reference)

    def score(self, counts_EK: Any) -> float:
        right, words = counts_EK.sum(axis=0)
        return float(right / words) if words else 0.0


class Fixed(Baseline):
    """Predicts one tag, and counts how often it is fitted."""

    name: ClassVar[str] = "fixed"
    summary: ClassVar[str] = "always N"
    fitted: ClassVar[int] = 0

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        type(self).fitted += 1
        self.task.labels = ["spoilt"]  # type: ignore[attr-defined]

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        return [["N"] * len(row["tokens"]) for row in rows]


class Broken(Fixed):
    """Raises."""

    name: ClassVar[str] = "broken"

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        raise ImportError("No module named\n'nowhere'")


class Short(Fixed):
    """Forgets a row."""

    name: ClassVar[str] = "short"

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        return super().predict(rows)[1:]


class Tagging(TokenClassification):
    """A task with the baselines of a test."""

    name = "tagging"
    metrics = ("share",)
    chosen: ClassVar[tuple[type[Baseline], ...]] = (MostFrequentTag, Fixed)

    def baselines(self) -> list[Baseline]:
        return [one(self) for one in self.chosen]


def splits(rows: dict[str, list[Row]] = ROWS) -> Splits:
    return Splits(rows, fingerprint(rows))


def fitted(task: Tagging | None = None) -> Tagging:
    task = task or Tagging()
    task.fit(ROWS["train"])
    return task


# --- the most frequent tag


def test_each_word_gets_its_most_frequent_tag_and_a_new_one_the_most_frequent_of_all() -> None:
    baseline = MostFrequentTag(fitted())
    baseline.fit(ROWS["train"], [])
    assert baseline.predict(ROWS["test"]) == [["D", "N", "V"], ["N", "V"]]


@given(st.lists(st.sampled_from("abc"), min_size=1))
def test_ties_go_to_the_first_by_alphabet(tags: list[str]) -> None:
    counted = Counter(tags)
    chosen = most_frequent(counted)
    assert all((counted[chosen], -ord(chosen)) >= (counted[other], -ord(other)) for other in counted)


# --- scores


def test_scores_and_intervals_are_those_of_the_tasks_metrics() -> None:
    computed = compute(fitted(), [Share()], splits(), cache=False)
    assert list(computed.scores) == ["most frequent tag", "fixed"]
    tag, fixed = computed.scores.values()
    assert tag.scores == {"valid": {"share": 1.0}, "test": {"share": 4 / 5}}
    assert fixed.scores == {"valid": {"share": 1 / 2}, "test": {"share": 1 / 5}}
    counts = count(Share(), [["N"] * 3, ["N"] * 2], [row["tags"] for row in ROWS["test"]])
    np.testing.assert_array_equal(counts, [[1, 3], [0, 2]])
    assert fixed.intervals["test"]["share"] == list(interval(Share(), counts))
    assert fixed.summary == "always N" and fixed.seconds >= 0
    assert json.loads(json.dumps(computed.document()))["fixed"]["scores"] == fixed.scores


def test_a_baseline_leaves_the_task_as_it_is() -> None:
    task = fitted()
    compute(task, [Share()], splits(), cache=False)
    assert task.labels == ["D", "N", "V"]


def test_splits_that_are_not_there_are_left_out() -> None:
    (tag, _) = compute(fitted(), [Share()], splits({"train": ROWS["train"]}), cache=False).scores.values()
    assert tag.scores == tag.intervals == {}


# --- failures


def test_a_baseline_that_fails_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tagging, "chosen", (Broken, Short, MostFrequentTag))
    computed = compute(fitted(), [Share()], splits())
    assert list(computed.scores) == ["most frequent tag"]
    assert computed.notes == [
        "baseline 'broken' failed: ImportError: No module named 'nowhere'",
        "baseline 'short' failed: it gave 0 predictions for the 1 rows of valid.",
    ]


def test_a_task_that_cannot_name_its_baselines_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Tagging) -> list[Baseline]:
        raise RuntimeError("no")

    monkeypatch.setattr(Tagging, "baselines", broken)
    computed = compute(fitted(), [Share()], splits())
    assert computed.scores == {}
    assert computed.notes == ["the baselines of task 'tagging' failed: RuntimeError: no"]


# --- the cache


@pytest.fixture
def only_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tagging, "chosen", (Fixed,))
    monkeypatch.setattr(Fixed, "fitted", 0)


@pytest.mark.usefixtures("only_fixed")
def test_what_is_known_is_not_computed_again(capsys: pytest.CaptureFixture[str]) -> None:
    first = compute(fitted(), [Share()], splits())
    assert capsys.readouterr().err == "computing the baseline 'fixed' (1 of 1)\n"
    assert compute(fitted(), [Share()], splits()) == first
    assert capsys.readouterr().err == ""
    assert Fixed.fitted == 1
    compute(fitted(), [Share()], splits(), cache=False)
    assert Fixed.fitted == 2


@pytest.mark.usefixtures("only_fixed")
def test_other_rows_other_settings_and_other_classes_are_computed() -> None:
    class Other(Fixed):
        """Another baseline of the same name."""

    class OtherShare(Share):
        """Another metric of the same name."""

    compute(fitted(), [Share()], splits())
    compute(fitted(), [Share()], splits({**ROWS, "test": ROWS["test"][:1]}))
    assert Fixed.fitted == 2
    task = Tagging()
    task.fit([*ROWS["train"], {"id": "h", "tokens": ["x"], "tags": ["X"]}])  # what the task learnt differs
    compute(task, [Share()], splits())
    assert Fixed.fitted == 3
    compute(fitted(), [OtherShare()], splits())
    assert Fixed.fitted == 4
    task = fitted()
    task.baselines = lambda: [Other(task)]  # type: ignore[method-assign]
    compute(task, [Share()], splits())
    assert Other.fitted == 5


@pytest.mark.usefixtures("only_fixed")
def test_a_damaged_entry_is_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    first = compute(fitted(), [Share()], splits())
    (file,) = BaselineCache().root.glob("*/scores.json")
    file.write_text("{}", encoding="utf-8")
    assert compute(fitted(), [Share()], splits()).scores["fixed"].scores == first.scores["fixed"].scores
    assert "made anew" in caplog.text
    assert Fixed.fitted == 2


@pytest.mark.usefixtures("only_fixed")
def test_a_cache_that_cannot_be_written_is_said_and_gone_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "file"))
    assert compute(fitted(), [Share()], splits()).scores["fixed"].scores["test"] == {"share": 1 / 5}
    assert "Cannot keep baselines" in caplog.text or "made anew" in caplog.text
