"""The synthetic sample: the same from the same seed, and not to be solved by looking words up."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vertebra.config.schema import DataConfig
from vertebra.errors import DataError
from vertebra_ner.metrics import EntityF1
from vertebra_ner.sample import read
from vertebra_ner.task import NER

Rows = list[dict[str, Any]]


def sample(**options: int) -> dict[str, Rows]:
    return read(DataConfig(format="ner_sample", options=options))


def by_heart(train: Rows, rows: Rows) -> float:
    """The entity F1 of giving each word the tag that it has most often in training."""
    tags_of: dict[str, Counter[str]] = defaultdict(Counter)
    for row in train:
        for word, tag in zip(row["tokens"], row["tags"], strict=True):
            tags_of[word][tag] += 1
    task = NER()
    task.fit(train)
    metric = EntityF1()
    counts = []
    for row in rows:
        tags = [tags_of[word].most_common(1)[0][0] if word in tags_of else "O" for word in row["tokens"]]
        counts.append(metric.count(task.combine(row, [tags]), task.reference(row)))
    return metric.score(np.asarray(counts, dtype=np.float64))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_lookup_table_knows_the_training_part_but_not_the_test_part(seed: int) -> None:
    data = sample(seed=seed)
    assert by_heart(data["train"], data["train"]) > 0.6
    assert by_heart(data["train"], data["test"]) < 0.4
    assert by_heart(data["train"], data["valid"]) < 0.4


def test_most_names_of_the_test_part_do_not_stand_in_training() -> None:
    data = sample()
    known = {word for row in data["train"] for word in row["tokens"]}
    names = [one["text"].split() for row in data["test"] for one in NER().reference(row)["entities"]]
    unseen = [words for words in names if not set(words) <= known]
    assert len(unseen) > 0.6 * len(names)


def test_the_other_words_do() -> None:
    data = sample()
    plain = {
        split: {w for row in rows for w, t in zip(row["tokens"], row["tags"], strict=True) if t == "O" and w.isalpha()}
        for split, rows in data.items()
    }
    assert plain["test"] <= plain["train"]


def test_names_stand_for_more_than_one_type() -> None:
    data = sample(train=3000)
    types: dict[str, set[str]] = defaultdict(set)
    for row in data["train"]:
        for word, tag in zip(row["tokens"], row["tags"], strict=True):
            if tag.startswith("B-"):
                types[word].add(tag)
    assert sum(len(kinds) > 1 for kinds in types.values()) > 100


def test_no_sentence_stands_twice() -> None:
    sentences = [" ".join(row["tokens"]) for rows in sample().values() for row in rows]
    assert len(set(sentences)) == len(sentences)


def test_the_seed_makes_the_data() -> None:
    assert sample(seed=5) == sample(seed=5)
    assert sample(seed=5) != sample(seed=6)


@given(st.integers(0, 2**32), st.integers(1, 30))
@settings(max_examples=20, deadline=None)
def test_rows_are_what_the_task_takes(seed: int, size: int) -> None:
    data = sample(seed=seed, train=size, valid=size, test=size)
    assert {split: len(rows) for split, rows in data.items()} == {"train": size, "valid": size, "test": size}
    task = NER()
    for row in [row for rows in data.values() for row in rows]:
        task.check(row)
        assert all(row["tokens"])
        assert task.combine(row, [row["tags"]])["tags"] == row["tags"]


def test_a_wrong_option_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.options\.sed: .* Did you mean 'seed'\?"):
        sample(sed=1)
    with pytest.raises(DataError, match=r"data\.options\.train=0"):
        sample(train=0)
