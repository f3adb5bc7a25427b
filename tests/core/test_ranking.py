"""Ranking: one score for each candidate, in the row's order, and an order that says who is right."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.core.test_token_classification import BPE

from vertebra.engine.packing import pack
from vertebra.errors import DataError
from vertebra.tasks.ranking import Ranking
from vertebra.tasks.task import Row

ROW: Row = {"query": "Who went?", "candidates": ["Peter went.", "x", "It rained in New York."], "labels": [1, 0, 1]}


class Choice(Ranking):
    """A task of the family."""

    name: ClassVar[str] = "choice"
    metrics: ClassVar[tuple[str, ...]] = ()


def test_each_candidate_is_read_behind_the_query_and_scored_at_its_last_token() -> None:
    features = Choice().encode(ROW, BPE)
    assert [BPE.decode(one.input_ids.tolist()) for one in features] == [
        f"Who went?\n{candidate}\n" for candidate in ROW["candidates"]
    ]
    assert [one.positions.tolist() for one in features] == [[len(one) - 1] for one in features]
    assert [one.target for one in features] == [1, 0, 1]
    unlabelled = Choice().encode({"query": "a", "candidates": ["b"]}, BPE)
    assert [one.target for one in unlabelled] == [None]


def test_the_loss_is_that_of_each_candidate_alone() -> None:
    made = Choice()
    batch = pack(made.encode(ROW, BPE), made.collate)
    head = made.build_head(8)
    outputs = head(torch.randn(3, 8))
    assert outputs.shape == (3, 1) and batch.targets is not None
    targets = [one.target for one in batch.features]
    p = torch.sigmoid(outputs.squeeze(1))
    expected = -torch.stack([torch.log(p[n] if t else 1 - p[n]) for n, t in enumerate(targets)]).mean()
    loss = made.loss(outputs, batch.targets)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    loss.backward()


@given(st.lists(st.floats(-1000, 1000), min_size=1, max_size=8))
def test_the_best_candidate_comes_first(odds: list[float]) -> None:
    row = {"query": "q", "candidates": [f"text {number}" for number in range(len(odds))]}
    ranking = Choice().combine(row, odds)
    assert sorted(one["candidate"] for one in ranking) == list(range(len(odds)))
    ordered = [odds[one["candidate"]] for one in ranking]
    assert ordered == sorted(odds, reverse=True)
    assert all(0 <= one["score"] <= 1 and one["text"] == row["candidates"][one["candidate"]] for one in ranking)
    assert json.loads(json.dumps(ranking)) == ranking


def test_a_prediction_is_right_where_the_right_ones_stand_first() -> None:
    made = Choice()
    reference = made.reference(ROW)
    assert reference == [{"candidate": 0, "text": "Peter went."}, {"candidate": 2, "text": "It rained in New York."}]
    assert made.right(made.combine(ROW, [1.0, -1.0, 2.0]), reference)
    assert not made.right(made.combine(ROW, [1.0, 1.5, 2.0]), reference)


@pytest.mark.parametrize("limit", [6, 9, 12, 20])
def test_what_is_too_long_loses_the_candidate_s_end(limit: int) -> None:
    made = Choice()
    row = {"query": "Who went there?", "candidates": ["word " * 50], "labels": [1]}
    (features,) = made.encode(row, BPE)
    shorter = made.shorten(features, limit)
    assert len(shorter) == limit
    assert shorter.positions.tolist() == [limit - 1]
    assert shorter.input_ids[-1] == features.input_ids[-1]
    assert "w" in BPE.decode(shorter.input_ids.tolist()).split("\n")[1]
    with pytest.raises(DataError, match=r"use data\.too_long=truncate"):
        made.windows(features, limit)
    assert made.windows(features, 1000) == [features] and made.shorten(features, 1000) is features


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": ""}, "the query is empty"),
        ({"candidates": []}, "there are no candidates"),
        ({"candidates": ["a", "", "b"]}, "candidate 2 must be a text that is not empty, not ''"),
        ({"candidates": ["a", 3, "b"]}, "candidate 2 must be a text that is not empty, not 3"),
        ({"labels": [1, 0]}, "3 candidates have 2 labels"),
        ({"labels": [1, 0, 2]}, "label 3 must be 0 or 1, not 2"),
        ({"labels": [1, 0, None]}, "label 3 must be 0 or 1, not None"),
        ({"labels": [1, "yes", 0]}, "label 2 must be 0 or 1, not 'yes'"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Choice().check({**ROW, **change})


@pytest.mark.parametrize(("labels", "word"), [([0, 0, 0], "right"), ([1, 1, 1], "wrong")])
def test_rows_that_show_nothing_are_refused(labels: list[int], word: str) -> None:
    with pytest.raises(DataError, match=f"No candidate of the training rows is {word}"):
        Choice().fit([{**ROW, "labels": labels}])


def test_labels_may_be_written_in_any_usual_way() -> None:
    made = Choice()
    row = {**ROW, "labels": ["1", False, True]}
    made.check(row)
    assert [one.target for one in made.encode(row, BPE)] == [1, 0, 1]
    assert made.labels_of(row) == ["1", "0", "1"]
    assert np.isfinite(made.combine(row, [0.0, 0.0, 0.0])[0]["score"])
