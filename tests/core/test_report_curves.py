"""Learning curves: drawn from what is there, the same each time, and small however long the run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vertebra.report.curves import loss_curve, score_curve, thinned

LOG = [{"step": step, "loss": 2.0 / step} for step in range(1, 50)]
EVALUATIONS = [
    {"step": 20, "split": "valid", "scores": {"f1": 0.5, "accuracy": 0.7}, "loss": 0.4, "best": True},
    {"step": 40, "split": "valid", "scores": {"f1": 0.4, "accuracy": 0.8}, "loss": 0.5, "best": False},
    {"step": 40, "split": "test", "scores": {"f1": 0.1, "accuracy": 0.1}, "loss": 0.9, "best": False},
]


def test_nothing_is_drawn_of_nothing() -> None:
    assert loss_curve([], []) == ""
    assert score_curve([]) == ""
    assert score_curve(EVALUATIONS[2:]) == ""  # the test split has no curve


def test_each_kind_of_line_is_named() -> None:
    assert "validation" not in loss_curve(LOG, [])
    both = loss_curve(LOG, EVALUATIONS)
    assert ">training<" in both
    assert ">validation<" in both
    assert ">training<" not in loss_curve([], EVALUATIONS)


def test_the_best_is_that_of_the_score_that_picks_the_checkpoint() -> None:
    assert "best 50.00" in score_curve(EVALUATIONS)
    assert "best 70.00" in score_curve(EVALUATIONS, "accuracy")
    assert "best" not in score_curve([line | {"best": False} for line in EVALUATIONS])


def test_the_scores_that_are_asked_for_are_drawn_and_no_others() -> None:
    drawn = score_curve(EVALUATIONS, drawn=["accuracy", "unknown"])
    assert ">accuracy<" in drawn and ">f1<" not in drawn and "best 70.00" in drawn
    assert score_curve(EVALUATIONS, drawn=["unknown"]) == ""


def test_one_evaluation_is_enough() -> None:
    assert "best 50.00" in score_curve(EVALUATIONS[:1])


def test_the_same_run_is_drawn_the_same() -> None:
    assert loss_curve(LOG, EVALUATIONS) == loss_curve(LOG, EVALUATIONS)
    assert score_curve(EVALUATIONS) == score_curve(EVALUATIONS)


@given(st.lists(st.floats(0, 100), max_size=300), st.integers(1, 40))
def test_thinning_bounds_the_points_and_keeps_the_end_and_the_range(losses: list[float], at_most: int) -> None:
    steps, means = thinned([(float(step), loss) for step, loss in enumerate(losses)], at_most)
    assert len(steps) == len(means) <= at_most
    if losses:
        assert steps[-1] == len(losses) - 1
        assert min(losses) - 1e-9 <= min(means) <= max(means) <= max(losses) + 1e-9
    if len(losses) <= at_most:
        assert means == losses
