"""Baselines, and SASRec beside them, rank as the task does."""

from __future__ import annotations

import numpy as np
from sasrec import SASRec, Settings
from test_recommendation_sequences import prepared

from vertebra_recommendation.baselines import ItemNeighbours, Popularity
from vertebra_recommendation.ranks import hit_rate
from vertebra_recommendation.task import Recommendation


def test_baselines_predict_in_the_form_of_the_task() -> None:
    made, _, _ = prepared()
    train, valid, test = (made.splits.rows[name] for name in ("train", "valid", "test"))
    peer = SASRec(made.task, Settings(width=8, blocks=1, epochs=2), seed=0)  # type: ignore[arg-type]
    for baseline in (*made.task.baselines(), peer):
        baseline.fit(train, valid)
        for prediction, row in zip(baseline.predict(test), test, strict=True):
            assert len(prediction["items"]) == min(10, 24 - len(row["history"]))
            assert not {one["item"] for one in prediction["items"]} & set(row["history"])
            assert 0 <= hit_rate(prediction["rank"]) <= 1
        assert baseline.predict([{"history": []}])[0]["rank"] is None


def test_neighbours_are_items_with_the_largest_cosine() -> None:
    task = Recommendation()
    task.read_tables({"items": [{"item": name, "title": name, "text": name} for name in "abcd"]})
    train = [{"history": [], "next": list(history)} for history in ("ab", "abc", "bc", "d", "cd")]
    task.fit(train)
    baseline = ItemNeighbours(task)
    baseline.fit(train, [{"history": ["a"], "next": ["b"]}])
    taken = np.asarray([[name in row["next"] for name in "abcd"] for row in train], dtype=float)
    cosines = taken.T @ taken / np.outer(*[np.linalg.norm(taken, axis=0)] * 2)
    np.fill_diagonal(cosines, 0)
    for number in range(4):
        np.testing.assert_allclose(baseline.scores([number]), cosines[number], atol=1e-12)
    popularity = Popularity(task)
    assert popularity.scores([]).tolist() == [2, 3, 3, 2]
