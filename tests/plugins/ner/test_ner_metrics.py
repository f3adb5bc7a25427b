"""Scores over entities are those of seqeval, strict, for any tags; accuracy counts words."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2, Entities
from sklearn.exceptions import UndefinedMetricWarning

from vertebra.config.schema import DataConfig
from vertebra.data.formats import columns_rows
from vertebra.data.tags import Scheme, to_iob2
from vertebra.metrics.metric import Metric
from vertebra_ner.entities import annotate, find_entities
from vertebra_ner.metrics import EntityF1, EntityPrecision, EntityRecall, TokenAccuracy

CONLL = Path(__file__).resolve().parents[4] / "shared/data/ner/conll2003"
TAGS = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-A-B", "I-A-B"])
SENTENCES = st.lists(st.lists(st.tuples(TAGS, TAGS), max_size=12), min_size=1, max_size=6)
OF_SEQEVAL = {EntityF1: f1_score, EntityPrecision: precision_score, EntityRecall: recall_score}


def annotation(tags: list[str]) -> dict[str, Any]:
    return annotate({"tokens": ["w"] * len(tags)}, tags)


def score(metric: Metric, predicted: list[list[str]], true: list[list[str]]) -> float:
    counts = [metric.count(annotation(a), annotation(b)) for a, b in zip(predicted, true, strict=True)]
    return metric.score(np.asarray(counts, dtype=np.float64))


def by_seqeval(metric: type[Metric], predicted: list[list[str]], true: list[list[str]]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        return float(OF_SEQEVAL[metric](true, predicted, mode="strict", scheme=IOB2, zero_division=0))


@given(SENTENCES)
def test_entities_are_those_of_seqeval_even_where_tags_are_not_well_formed(pairs: list[list[tuple[str, str]]]) -> None:
    sequences = [[tag for tag, _ in sentence] for sentence in pairs]
    for tags, entities in zip(sequences, Entities(sequences, scheme=IOB2).entities, strict=True):
        assert find_entities(tags) == [(entity.tag, entity.start, entity.end - 1) for entity in entities]


@given(SENTENCES, st.sampled_from(sorted(OF_SEQEVAL, key=lambda metric: metric.name)))
def test_scores_are_those_of_seqeval(pairs: list[list[tuple[str, str]]], metric: type[Metric]) -> None:
    predicted = [[tag for tag, _ in sentence] for sentence in pairs]
    true = [[tag for _, tag in sentence] for sentence in pairs]
    if not any(tag.startswith("B-") for sentence in predicted + true for tag in sentence):
        return  # seqeval fails on data without any entity; the next test says what is promised there
    assert score(metric(), predicted, true) == pytest.approx(by_seqeval(metric, predicted, true), abs=1e-12)


@pytest.mark.parametrize("metric", [EntityF1, EntityPrecision, EntityRecall])
def test_scores_of_nothing_are_zero(metric: type[Metric]) -> None:
    assert score(metric(), [["O"]], [["O"]]) == 0
    assert score(metric(), [["O"]], [["B-PER"]]) == 0
    assert score(metric(), [["B-PER"]], [["O"]]) == 0
    assert score(metric(), [[]], [[]]) == 0


def test_scores_on_real_data_are_those_of_seqeval() -> None:
    if not CONLL.is_dir():
        pytest.skip(f"needs CoNLL-2003 in {CONLL}")
    rows = list(columns_rows(CONLL / "test.txt", DataConfig()))
    true = [to_iob2(row["3"], Scheme.IOB1) for row in rows]
    chunks = {"NP": "PER", "VP": "LOC"}  # another reading of the same words, in part the same: chunks as entities
    predicted = [
        to_iob2([tag if tag == "O" else tag[:2] + chunks.get(tag[2:], "ORG") for tag in row["2"]], Scheme.IOB1)
        for row in rows
    ]
    mixed = [a if number % 3 else b for number, (a, b) in enumerate(zip(true, predicted, strict=True))]
    for metric in OF_SEQEVAL:
        assert score(metric(), mixed, true) == pytest.approx(by_seqeval(metric, mixed, true), abs=1e-12)
        assert 0.3 < score(metric(), mixed, true) < 0.9


def test_an_entity_needs_its_type_and_both_its_ends() -> None:
    true = [["B-PER", "I-PER", "O", "B-LOC"]]
    assert score(EntityF1(), true, true) == 1
    assert score(EntityF1(), [["B-PER", "O", "O", "B-LOC"]], true) == 0.5
    assert score(EntityF1(), [["B-ORG", "I-ORG", "O", "B-LOC"]], true) == 0.5


def test_all_sentences_count_alike() -> None:
    predicted, true = [["B-PER"] * 3, ["O"]], [["B-PER"] * 3, ["B-PER"]]
    assert score(EntityRecall(), predicted, true) == 0.75
    assert score(EntityPrecision(), predicted, true) == 1


def test_accuracy_is_over_words() -> None:
    assert score(TokenAccuracy(), [["O", "B-PER"], ["O"]], [["O", "O"], ["O"]]) == pytest.approx(2 / 3)
    assert score(TokenAccuracy(), [[]], [[]]) == 0
