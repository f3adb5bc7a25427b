"""Whether metrics tell right from wrong: perfect predictions, those of an untrained model, known cases."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vertebra.metrics.metric import Counts, Metric, count
from vertebra.testing.breaches import Breach, place
from vertebra.testing.case import Case
from vertebra.testing.likeness import brief

REFERENCES = {"reference", "references", "gold", "target", "targets", "true", "truth", "expected", "y_true", "label"}
PREDICTIONS = {"prediction", "predictions", "predicted", "pred", "preds", "output", "hypothesis", "y_pred", "guess"}


def check(case: Case) -> Iterator[Breach]:
    """Try each metric of the task."""
    for metric in case.prepared[0].metrics:
        yield from check_arguments(metric)
        yield from check_scores(metric, case)
    yield from check_known(case)


def check_arguments(metric: Metric) -> Iterator[Breach]:
    """Compare the names of the arguments with their order: the prediction comes first."""
    for method in ("count", "value"):
        names = list(inspect.signature(getattr(metric, method)).parameters) if hasattr(metric, method) else []
        if len(names) == 2 and (names[0] in REFERENCES or names[1] in PREDICTIONS):
            yield Breach(
                place(type(metric), method),
                f"{metric.name} takes ({', '.join(names)}), and is called with (prediction, reference)",
                "the arguments are swapped, as in scikit-learn's order (y_true, y_pred)",
            )


def check_scores(metric: Metric, case: Case) -> Iterator[Breach]:
    """Compare the score of perfect predictions with those of an untrained model."""
    where = place(type(metric), "score")
    rows, references = case.rows, case.references
    try:
        perfect = count(metric, case.gold, references, rows)
    except Exception as error:
        yield Breach(
            place(type(metric), "count"),
            f"{metric.name} stops with {type(error).__name__}: {error}, for the prediction {brief(case.gold[0])} of "
            f"{brief(references[0])}",
            "prediction and reference are swapped, each row gives another number of counts, or the metric expects another form "
            "than `combine` and `reference` give",
        )
        return
    wrong = case.untrained.counts[metric.name]
    yield from check_numbers(metric, where, perfect)
    best, worst = metric.score(perfect), metric.score(wrong)
    higher, first = metric.higher_is_better, metric is case.prepared[0].metrics[0]
    # Others may measure what is no matter of right and wrong; but where perfect predictions have 0, that is an error.
    if (first or best == 0) and (worst > best) == higher and not math.isclose(worst, best, rel_tol=1e-6):
        yield Breach(
            where,
            f"{metric.name} gives perfect predictions {best:.4g} and those of an untrained model {worst:.4g}; it declares that "
            f"{'higher' if higher else 'lower'} is better",
            "`higher_is_better` is missing for an error or a loss, prediction and reference are swapped, or `decode` says "
            "something else than `reference`",
        )
    elif worst == best and first:
        yield Breach(
            where,
            f"{metric.name}, which chooses the best checkpoint, gives perfect predictions and those of an untrained model the "
            f"same {best:.4g}",
            "it looks at what is the same for both, or compares things that are never equal",
        )


def check_numbers(metric: Metric, where: str, counts_EK: Counts) -> Iterator[Breach]:
    """Score no row, one row, all of one kind, and the same rows in another order: always a number, the same for the last."""
    samples = {"no row": counts_EK[:0], "one row": counts_EK[:1], "one row many times": counts_EK[[0] * 5]}
    for name, some in samples.items():
        try:
            score = metric.score(some)
        except Exception as error:
            score = math.nan
            said = f"stops with {type(error).__name__}: {error}"
        else:
            said = f"gives {score}"
        if not math.isfinite(score):
            cause = "a division by a count of 0, or a correlation of what is constant: such a score is 0.0"
            yield Breach(where, f"{metric.name} of {name} {said}", f"{cause} (the bootstrap draws such samples)")
            return
    turned = metric.score(counts_EK[::-1].copy())
    if not math.isclose(turned, metric.score(counts_EK), rel_tol=1e-6, abs_tol=1e-9):
        yield Breach(
            where,
            f"{metric.name} of the same rows in another order is {turned:.6g} instead of {metric.score(counts_EK):.6g}",
            "the score looks at neighbours or keeps something from call to call; the bootstrap draws rows in any order",
        )


def check_known(case: Case) -> Iterator[Breach]:
    """Try the cases that the author gave."""
    metrics = {metric.name: metric for metric in case.prepared[0].metrics}
    for name, predictions, references, expected in case.known_scores:
        found = known_score(metrics[name], predictions, references)
        if not math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-9):
            yield Breach(
                place(type(metrics[name]), "count"),
                f"{name} of {brief(list(predictions))} with the references {brief(list(references))} is {found:.6g}, and "
                f"should be {expected:.6g}",
                "prediction and reference are swapped, or the formula is another one",
            )


def known_score(metric: Metric, predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """Return the score of predictions without rows."""
    return metric.score(np.asarray(count(metric, predictions, references)))
