"""Baselines of labelled texts: of the task's own form, whatever its labels and its script."""

from __future__ import annotations

from typing import Any

import pytest

from vertebra.tasks.config import SequenceClassificationConfig
from vertebra.tasks.label_baselines import LinearBaseline, MajorityBaseline
from vertebra.tasks.sequence_classification import SequenceClassification
from vertebra.tasks.task import Row


class Texts(SequenceClassification):
    name = "texts"


def fitted(train: list[Row], **settings: Any) -> Texts:
    task = Texts(SequenceClassificationConfig(**settings))
    task.fit(train)
    return task


def rows(*pairs: tuple[str, Any]) -> list[Row]:
    return [{"text": text, "label": label} for text, label in pairs]


def test_majority_is_the_most_frequent_label_with_its_share() -> None:
    train = rows(("a", "x"), ("b", "y"), ("c", "x"), ("d", "x"))
    baseline = MajorityBaseline(fitted(train))
    baseline.fit(train, [])
    (prediction,) = baseline.predict(rows(("e", "y")))
    assert prediction == {"label": "x", "probability": 0.75, "probabilities": {"x": 0.75, "y": 0.25}}
    assert [type(one).name for one in fitted(train).baselines()] == ["majority", "tf-idf"]


@pytest.mark.parametrize(
    ("good", "bad"), [("I love it", "I hate it"), ("很好吃", "很难吃"), ("!!!", "???"), ("♥ ♥", "✗ ✗")]
)
def test_the_linear_model_learns_words_or_characters(good: str, bad: str) -> None:
    train = rows(*[(good, "pos"), (bad, "neg")] * 5)
    baseline = LinearBaseline(fitted(train))
    baseline.fit(train, [])
    predictions = baseline.predict(rows((bad, "neg"), (good, "pos")))
    assert [one["label"] for one in predictions] == ["neg", "pos"]


def test_several_labels_also_one_that_all_rows_have_or_none() -> None:
    train = rows(*[("good food", ["all", "food"]), ("good room", ["all", "room"])] * 5)
    baseline = LinearBaseline(fitted(train, kind="multi", labels=("all", "food", "room", "none")))
    baseline.fit(train, [])
    assert [one["labels"] for one in baseline.predict(train[:2])] == [["all", "food"], ["all", "room"]]
    majority = MajorityBaseline(fitted(train, kind="multi"))
    majority.fit(train, [])
    assert "all" in majority.predict(train[:1])[0]["labels"]


def test_a_declared_label_that_training_lacks_is_never_predicted() -> None:
    train = rows(*[("low", "1"), ("high", "3"), ("high", "3")] * 5)
    task = fitted(train, kind="ordinal", labels=(1, 2, 3))
    for baseline in task.baselines():
        baseline.fit(train, [])
        assert {one["label"] for one in baseline.predict(train)} <= {"1", "3"}


def test_the_baseline_s_threshold_is_its_own() -> None:
    train = rows(*[("good", "pos"), ("bad", "neg"), ("fine", "neg")] * 5)
    task = fitted(train, threshold="auto")
    baseline = LinearBaseline(task)
    baseline.fit(train, train)
    assert baseline.own.labelling.threshold != 0.5
    assert task.labelling.threshold == 0.5


def test_both_texts_of_a_pair_are_read() -> None:
    train = [{"text": "a", "text_b": word, "label": label} for word, label in [("yes", "1"), ("no", "0")] * 5]
    baseline = LinearBaseline(fitted(train, pair=True))
    baseline.fit(train, [])
    assert [one["label"] for one in baseline.predict(train[:2])] == ["1", "0"]
