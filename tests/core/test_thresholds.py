"""A chosen threshold is the best there is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from vertebra.tasks.thresholds import best_threshold, f1, macro_f1

ROWS = st.lists(st.tuples(st.integers(0, 20).map(lambda n: n / 20), st.booleans()), min_size=2, max_size=40)


@given(ROWS, st.sampled_from([(f1, "binary"), (macro_f1, "macro")]))
def test_no_other_threshold_between_the_probabilities_scores_more(rows: list[tuple[float, bool]], kind: tuple) -> None:  # type: ignore[type-arg]
    probabilities, truth = map(np.asarray, zip(*rows, strict=True))
    score, average = kind

    def scored(threshold: float) -> float:
        return float(f1_score(truth, probabilities >= threshold, average=average, labels=[0, 1], zero_division=0))

    chosen = best_threshold(probabilities.tolist(), truth.tolist(), score)
    values = np.unique(probabilities)
    candidates = (values[:-1] + values[1:]) / 2
    if len(candidates) == 0:
        assert chosen == 0.5
        return
    assert chosen in candidates
    best = max(scored(one) for one in candidates)
    assert scored(chosen) == pytest.approx(best)
    assert all(abs(one - 0.5) >= abs(chosen - 0.5) for one in candidates if scored(one) > best - 1e-13)


def test_nothing_to_go_by_is_one_half() -> None:
    assert best_threshold([], [], f1) == 0.5
    assert best_threshold([0.3, 0.3], [True, False], f1) == 0.5
