"""The baselines of entities: the published numbers again, and nothing that a row can break."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vertebra.config.schema import DataConfig
from vertebra.data.load import load_splits
from vertebra.host.manager import create_host
from vertebra.metrics.metric import count
from vertebra.tasks.task import Row
from vertebra_ner.baselines import CRF, KnownEntities, shape_of
from vertebra_ner.metrics import EntityF1, EntityPrecision, EntityRecall
from vertebra_ner.task import NER

DATA = Path(__file__).resolve().parents[4] / "shared/data/ner"
ROWS = [
    {"tokens": ["Paris", "Hilton", "left", "Paris"], "tags": ["B-PER", "I-PER", "O", "B-LOC"]},
    {"tokens": ["Paris", "beat", "Rome"], "tags": ["B-ORG", "O", "B-LOC"]},
    {
        "tokens": ["New", "York", "City", "and", "New", "York"],
        "tags": ["B-LOC", "I-LOC", "I-LOC", "O", "B-LOC", "I-LOC"],
    },
    {"tokens": [], "tags": []},
]


def fitted(rows: Sequence[Row] = ROWS) -> NER:
    task = NER()
    task.fit(rows)
    return task


def known(*words: str) -> list[tuple[str, str]]:
    baseline = KnownEntities(fitted())
    baseline.fit(ROWS, [])
    (prediction,) = baseline.predict([{"tokens": list(words)}])
    return [(entity["type"], entity["text"]) for entity in prediction["entities"]]


def scores(baseline: Any, rows: Sequence[Row]) -> list[float]:
    predictions, references = baseline.predict(rows), [baseline.task.reference(row) for row in rows]
    metrics = (EntityPrecision(), EntityRecall(), EntityF1())
    return [round(100 * metric.score(count(metric, predictions, references)), 2) for metric in metrics]


def test_known_entities_have_the_published_scores_on_conll2003() -> None:
    if not (DATA / "conll2003").is_dir():
        pytest.skip("the real data 'ner/conll2003' are not on this machine")
    task = NER()
    splits = load_splits(DataConfig(path=str(DATA / "conll2003")), task, create_host()).rows
    task.fit(splits["train"])
    baseline = KnownEntities(task)
    baseline.fit(splits["train"], splits["valid"])
    assert scores(baseline, splits["test"]) == [71.91, 50.90, 59.61]
    assert scores(baseline, splits["valid"])[2] == 71.18


def test_the_longest_known_phrase_counts_and_the_most_frequent_type() -> None:
    assert known("New", "York", "City", "Hall") == [("LOC", "New York City")]
    assert known("New", "York", "New", "York") == [("LOC", "New York"), ("LOC", "New York")]
    assert known("New", "Paris", "Hilton") == [("PER", "Paris Hilton")]
    assert known("Paris") == [("LOC", "Paris")]  # as often ORG; the first by alphabet
    assert known("paris", "York") == []
    assert known() == []


words = st.lists(st.text(min_size=1, max_size=6), max_size=8)


@given(words)
def test_any_words_are_tagged(tokens: list[str]) -> None:
    baseline = KnownEntities(fitted())
    baseline.fit(ROWS, [])
    (prediction,) = baseline.predict([{"tokens": tokens}])
    assert len(prediction["tags"]) == len(tokens)


@pytest.fixture(scope="module")
def field() -> CRF:
    field = CRF(fitted())
    field.fit(ROWS * 3, [])
    return field


@given(tokens=words)
def test_the_field_tags_any_words(field: CRF, tokens: list[str]) -> None:
    (prediction,) = field.predict([{"tokens": tokens}])
    assert len(prediction["tags"]) == len(tokens)
    assert set(prediction["tags"]) <= set(field.task.labels) | {"B-PER", "B-ORG", "B-LOC"}


def test_the_field_learns_what_a_lookup_cannot() -> None:
    task = NER()
    splits = load_splits(DataConfig(format="ner_sample", options={"train": 400}), task, create_host()).rows
    task.fit(splits["train"])
    field, lookup = CRF(task), KnownEntities(task)
    for baseline in (field, lookup):
        baseline.fit(splits["train"], splits["valid"])
    assert scores(field, splits["test"])[2] > 90 > 10 > scores(lookup, splits["test"])[2]


def test_the_field_is_the_same_each_time(field: CRF) -> None:
    again = CRF(fitted())
    again.fit(ROWS * 3, [])
    assert again.tagger.info().state_features == field.tagger.info().state_features


def test_single_characters_are_seen_in_pairs() -> None:
    rows = [{"tokens": list("他在北京"), "tags": ["O", "O", "B-LOC", "E-LOC"]}]
    seen = CRF(fitted(rows)).attributes(rows[0]["tokens"])
    assert "-1:pair=北 京" in seen[3]
    assert not any("pair" in one for one in CRF(fitted()).attributes(["in", "Rome"])[1])


@pytest.mark.parametrize(
    ("word", "shape"),
    [("McDonald", "XxXx"), ("U.S.", "X.X."), ("1996-08-22", "0-0-0"), ("été", "x"), ("北京", "x"), ("", "")],
)
def test_shapes(word: str, shape: str) -> None:
    assert shape_of(word) == shape


def test_baselines_are_named_in_the_order_of_their_strength() -> None:
    assert [one.name for one in fitted().baselines()] == ["most frequent tag", "known entities", "CRF"]
