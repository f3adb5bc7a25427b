"""Scores of labels are those of scikit-learn, for any labels, and stay what they are where they are not defined."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    f1_score,
    matthews_corrcoef,
    mean_absolute_error,
)

from vertebra.engine.evaluate import count
from vertebra.host.manager import create_host
from vertebra.metrics.bootstrap import interval
from vertebra.metrics.classification import BINS, Accuracy, CalibrationError, MacroF1, MatthewsCorrelation
from vertebra.metrics.metric import Metric
from vertebra.metrics.multilabel import MultilabelMacroF1, MultilabelMicroF1, SubsetAccuracy
from vertebra.metrics.ordinal import MeanAbsoluteError, QuadraticKappa
from vertebra.tasks.config import SequenceClassificationConfig
from vertebra.tasks.sequence_classification import SequenceClassification

SCALE = ["none", "some", "much", "all"]
LABELS = st.sampled_from(SCALE)
PAIRS = st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40)
SETS = st.lists(st.tuples(st.sets(LABELS), st.sets(LABELS)), min_size=1, max_size=30)


class Texts(SequenceClassification):
    name = "texts"


def scale_task() -> SequenceClassification:
    task = Texts(SequenceClassificationConfig(kind="ordinal", labels=tuple(SCALE)))
    task.restore({"labels": SCALE, "weights": None, "threshold": 0.5})
    return task


def score(metric: Metric, predicted: Sequence[Any], true: Sequence[Any], name: str = "label") -> float:
    return metric.score(count(metric, [{name: one} for one in predicted], [{name: one} for one in true]))


@given(PAIRS)
@pytest.mark.filterwarnings("ignore:A single label was found")  # where the correlation is not defined
def test_one_label_of_each_text(pairs: list[tuple[str, str]]) -> None:
    predicted, true = zip(*pairs, strict=True)
    assert score(Accuracy(), predicted, true) == pytest.approx(accuracy_score(true, predicted))
    assert score(MacroF1(), predicted, true) == pytest.approx(
        f1_score(true, predicted, average="macro", zero_division=0)
    )
    assert score(MatthewsCorrelation(), predicted, true) == pytest.approx(matthews_corrcoef(true, predicted), abs=1e-12)


@given(PAIRS)
def test_a_label_of_a_scale(pairs: list[tuple[str, str]]) -> None:
    predicted, true = zip(*pairs, strict=True)
    places = [SCALE.index(one) for one in true], [SCALE.index(one) for one in predicted]
    task = scale_task()
    assert score(MeanAbsoluteError.for_task(task), predicted, true) == pytest.approx(mean_absolute_error(*places))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one label alone, where kappa is not defined
        kappa = cohen_kappa_score(*places, labels=range(len(SCALE)), weights="quadratic")
    found = score(QuadraticKappa.for_task(task), predicted, true)
    assert found == pytest.approx(0.0 if np.isnan(kappa) else kappa)


@given(SETS)
def test_any_number_of_labels(pairs: list[tuple[set[str], set[str]]]) -> None:
    predicted = [[label in one for label in SCALE] for one, _ in pairs]
    true = [[label in other for label in SCALE] for _, other in pairs]
    there = np.flatnonzero(np.any(predicted, axis=0) | np.any(true, axis=0))
    micro = f1_score(true, predicted, average="micro", zero_division=0)
    macro = f1_score(true, predicted, average="macro", labels=there, zero_division=0) if len(there) else 0.0
    names = [sorted(one) for one, _ in pairs], [sorted(other) for _, other in pairs]
    assert score(MultilabelMicroF1(), *names, "labels") == pytest.approx(micro)
    assert score(MultilabelMacroF1.for_task(scale_task()), *names, "labels") == pytest.approx(macro)
    assert score(SubsetAccuracy(), *names, "labels") == pytest.approx(accuracy_score(true, predicted))


def test_labels_that_cannot_be_predicted_count_as_missed() -> None:
    assert score(MacroF1(), ["a", "a"], ["a", "new"]) == pytest.approx((2 / 3) / 2)
    metric = MultilabelMacroF1.for_task(scale_task())
    assert score(metric, [["some"], ["all"]], [["some"], ["all", "new"]], "labels") == pytest.approx(2 / 3)
    assert score(MultilabelMicroF1(), [["some"]], [["some", "new"]], "labels") == pytest.approx(2 / 3)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_is_that_of_scikit_learn_s_calibration_curve(pairs: list[tuple[float, bool]]) -> None:
    # Between two bins the last digit decides, and the two need not agree on it.
    pairs = [(p, right) for p, right in pairs if abs(p * BINS - round(p * BINS)) > 1e-9 or p in (0.0, 1.0)]
    if not pairs:
        return
    probabilities, right = map(np.asarray, zip(*pairs, strict=True))
    predictions = [{"label": "a", "probability": p} for p, _ in pairs]
    references = [{"label": "a" if right else "b"} for _, right in pairs]
    metric = CalibrationError()
    found = metric.score(count(metric, predictions, references))
    share, mean = calibration_curve(right.astype(int), probabilities, n_bins=BINS, pos_label=1)
    sizes = np.unique(np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probabilities), return_counts=True)[1]
    assert found == pytest.approx(np.average(np.abs(share - mean), weights=sizes), abs=1e-9)


def test_a_model_that_knows_how_sure_it_is_has_no_calibration_error() -> None:
    predictions = [{"label": "a", "probability": 0.75}] * 4
    references = [{"label": "a"}] * 3 + [{"label": "b"}]
    metric = CalibrationError()
    assert metric.score(count(metric, predictions, references)) == pytest.approx(0.0)
    assert metric.score(count(metric, predictions[:3], references[:3])) == pytest.approx(0.25)


@pytest.mark.parametrize(
    "metric",
    [
        Accuracy(),
        MacroF1(),
        MatthewsCorrelation(),
        CalibrationError(),
        MultilabelMicroF1(),
        MultilabelMacroF1(scale_task()),
        SubsetAccuracy(),
        MeanAbsoluteError(scale_task()),
        QuadraticKappa(scale_task()),
    ],
    ids=lambda metric: metric.name,
)
def test_no_examples_score_zero_and_the_core_registers_the_metric(metric: Metric) -> None:
    width = {"multilabel_micro_f1": 3, "multilabel_macro_f1": 15}.get(metric.name, 2)
    assert metric.score(np.zeros((0, width))) == 0.0
    assert create_host().get("metric", metric.name).load() is type(metric)


def test_the_interval_of_many_labels_holds_the_score() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(77, size=500)
    predicted = np.where(rng.random(500) < 0.7, true, rng.integers(77, size=500))
    metric = MacroF1()
    counts = count(metric, [{"label": str(one)} for one in predicted], [{"label": str(one)} for one in true])
    assert counts.shape == (500, 2)
    low, high = interval(metric, counts)
    assert low < metric.score(counts) < high
