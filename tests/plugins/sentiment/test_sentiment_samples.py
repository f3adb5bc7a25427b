"""The synthetic samples: the same from the same seed, and not to be solved by counting words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vertebra.config.schema import DataConfig
from vertebra.engine.evaluate import count
from vertebra.errors import DataError
from vertebra.metrics.classification import Accuracy
from vertebra_sentiment import requests, reviews
from vertebra_sentiment.task import Classification, Sentiment

Read = Callable[[DataConfig], dict[str, list[dict[str, Any]]]]
SAMPLES = [(reviews.read, Sentiment), (requests.read, Classification)]


def sample(read: Read, **options: int) -> dict[str, list[dict[str, Any]]]:
    return read(DataConfig(options=options))


@pytest.mark.parametrize(("read", "kind"), SAMPLES, ids=["sentiment", "classification"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_baselines_are_far_from_perfect(read: Read, kind: Any, seed: int) -> None:
    data = sample(read, seed=seed, test=1000)
    task = kind()
    task.fit(data["train"])
    scores = {}
    for baseline in task.baselines():
        baseline.fit(data["train"], data["valid"])
        metric = Accuracy()
        references = [task.reference(row) for row in data["test"]]
        scores[baseline.name] = metric.score(count(metric, baseline.predict(data["test"]), references))
    assert scores["majority"] < 1.15 / len(task.labels)
    assert scores["tf-idf"] < 0.82


@pytest.mark.parametrize("read", [reviews.read, requests.read], ids=["sentiment", "classification"])
def test_labels_are_even_and_no_text_stands_twice(read: Read) -> None:
    data = sample(read)
    assert {split: len(rows) for split, rows in data.items()} == {"train": 3000, "valid": 200, "test": 200}
    texts = [row["text"] for rows in data.values() for row in rows]
    assert len(set(texts)) == len(texts)
    labels = Counter(row["label"] for row in data["train"])
    assert max(labels.values()) < 1.3 * min(labels.values())


@pytest.mark.parametrize("read", [reviews.read, requests.read], ids=["sentiment", "classification"])
def test_the_words_of_the_test_part_stand_in_training(read: Read) -> None:
    data = sample(read)
    words = {split: {word for row in rows for word in row["text"].split()} for split, rows in data.items()}
    assert words["test"] <= words["train"]


@given(st.integers(0, 2**32), st.integers(2, 20))
@settings(max_examples=20)
def test_the_seed_makes_the_data(seed: int, size: int) -> None:
    for read, kind in SAMPLES:
        data = sample(read, seed=seed, train=size, valid=1, test=1)
        assert data == sample(read, seed=seed, train=size, valid=1, test=1)
        assert [len(rows) for rows in data.values()] == [size, 1, 1]
        for row in data["train"]:
            kind().check(row)
    assert sample(reviews.read, seed=seed) != sample(reviews.read, seed=seed + 1)


def test_a_wrong_option_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.options\.sed: .* Did you mean 'seed'\?"):
        sample(reviews.read, sed=1)
