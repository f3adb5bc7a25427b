"""Figures of predicted labels: scikit-learn's report, confusions, and how far probabilities can be believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from vertebra.metrics.classification import BINS, bin_of
from vertebra.report.figures import ConfusionMatrix, Figure, Table

LARGEST_MATRIX = 100
"""Labels of a confusion matrix; of more than these the most frequent confusions are listed."""
MOST_CONFUSIONS = 20
LABEL_COLUMNS = ("label", "precision", "recall", "F1", "support")
"""What a report by label has."""


def report_table(title: str, report: dict[str, Any], note: str) -> Table:
    """Return a report of scikit-learn or seqeval (name to precision, recall, f1-score and support) as a table."""
    rows: list[tuple[str | int | float, ...]] = []
    for name, scores in report.items():
        if isinstance(scores, dict):
            precision, recall, f1 = (float(scores[key]) for key in ("precision", "recall", "f1-score"))
            rows.append((name, precision, recall, f1, int(scores["support"])))
        else:  # "accuracy" is one number
            rows.append((name, "", "", float(scores), int(report["macro avg"]["support"])))
    return Table(title, LABEL_COLUMNS, tuple(rows), note)


def label_report(title: str, predicted: Sequence[str], true: Sequence[str], labels: Sequence[str], note: str) -> Table:
    """Return scikit-learn's classification report, the labels in this order."""
    from sklearn.metrics import classification_report

    report = classification_report(true, predicted, labels=labels, output_dict=True, zero_division=0)
    return report_table(title, report, note)


def sets_report(
    title: str, predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]], labels: Sequence[str], note: str
) -> Table:
    """Return scikit-learn's classification report where a row has any number of labels."""
    import numpy as np
    from sklearn.metrics import classification_report

    def indicators(rows: Sequence[Sequence[str]]) -> Any:
        return np.array([[label in row for label in labels] for row in rows], dtype=int).reshape(len(rows), len(labels))

    report = classification_report(
        indicators(true), indicators(predicted), target_names=labels, output_dict=True, zero_division=0
    )
    return report_table(title, report, note)


def confusions(title: str, predicted: Sequence[str], true: Sequence[str], labels: Sequence[str]) -> Figure:
    """Return how often each label was predicted as each other; of many labels, the most frequent confusions."""
    pairs = Counter(zip(true, predicted, strict=True))
    if len(labels) <= LARGEST_MATRIX:
        counts = tuple(tuple(pairs[row, column] for column in labels) for row in labels)
        return ConfusionMatrix(title, tuple(labels), counts)
    wrong = [(*pair, times) for pair, times in pairs.most_common() if pair[0] != pair[1]]
    note = f"The most frequent confusions of {len(labels)} labels."
    return Table(title, ("label", "predicted as", "times"), tuple(wrong[:MOST_CONFUSIONS]), note)


def reliability(probabilities: Sequence[float], right: Sequence[bool]) -> Table:
    """Return for each bin of probabilities how often predictions with such a probability were right."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for probability, is_right in zip(probabilities, right, strict=True):
        bins[bin_of(probability)].append((probability, is_right))
    rows = [
        (
            f"{number / BINS:.2f} to {(number + 1) / BINS:.2f}",
            len(some),
            sum(probability for probability, _ in some) / len(some),
            sum(is_right for _, is_right in some) / len(some),
        )
        for number, some in enumerate(bins)
        if some
    ]
    note = (
        "What a model says of its own predictions: probabilities that can be believed are right as often as they say."
    )
    return Table("Reliability", ("probability", "predictions", "mean probability", "right"), tuple(rows), note)
