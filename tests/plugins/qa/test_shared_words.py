"""The words that a candidate shares with the question: how they are counted, and what a head makes of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from tests.core.test_token_classification import BPE
from torch import nn

from vertebra.engine.packing import pack
from vertebra.tasks.heads import run_head
from vertebra_qa.answer_selection import AnswerSelection
from vertebra_qa.config import AnswerSelectionConfig
from vertebra_qa.lexical import Rarity, shared_with
from vertebra_qa.shared_words import SharedWordsHead

ROWS: list[dict[str, Any]] = [
    {
        "id": str(number),
        "query": f"Where was {name} born?",
        "candidates": [f"{name} was born in Rome.", "It rained in Rome.", f"{name} likes tea, and was tired."],
        "labels": [1, 0, 0],
    }
    for number, name in enumerate(("Ada", "Bo", "Cy", "Dee", "Eve", "Flo"))
]


def made(**settings: Any) -> AnswerSelection:
    task = AnswerSelection(AnswerSelectionConfig(**settings))
    task.fit(ROWS)
    return task


def test_words_count_once_and_marks_are_worth_nothing() -> None:
    rarity = Rarity(["a cat", "a dog", "a cow"])
    once, twice, none = shared_with("A cat ? cat", ["the cat ?", "cat cat cat ? ?", "cows"], rarity)
    assert once == twice == (1.0, rarity["cat"])
    assert none == (0.0, 0.0)


@given(st.lists(st.text("abc .!", max_size=12), max_size=8), st.text("abcd", min_size=1, max_size=3))
def test_what_is_kept_of_the_counts_tells_all_words_as_rare(texts: list[str], word: str) -> None:
    rarity = Rarity(texts)
    again = Rarity.restored(json.loads(json.dumps(rarity.state())))
    for one in {word, *(piece for text in texts for piece in text.split())}:
        assert again[one] == rarity[one]
        assert again.is_common(one) == rarity.is_common(one)


def test_the_head_begins_at_a_logistic_regression_on_the_words_and_learns_on() -> None:
    task = made()
    assert task.rarity is not None
    shared = [one for row in ROWS for one in shared_with(row["query"], row["candidates"], task.rarity)]
    regression = LogisticRegression(max_iter=1000).fit(shared, [label for row in ROWS for label in row["labels"]])
    head = task.build_head(8).eval()
    assert isinstance(head, SharedWordsHead)
    nn.init.zeros_(head.text[1].weight)
    batch = pack([one for row in ROWS for one in task.encode(row, BPE)], task.collate)
    outputs_N1 = run_head(head, torch.randn(len(batch), 8), batch)
    # The stream has the longest first: each sequence is found by what was noted of it.
    expected = [float(regression.coef_[0] @ one.note["shared"]) + head.text[1].bias.item() for one in batch.features]
    assert outputs_N1.squeeze(1).tolist() == pytest.approx(expected, abs=1e-4)
    assert batch.targets is not None
    task.loss(outputs_N1, batch.targets).backward()
    assert head.words.weight.grad is not None and head.words.weight.grad.abs().sum() > 0


def test_the_numbers_are_added_in_full_precision() -> None:
    task = made()
    head = task.build_head(8).eval()
    batch = pack(task.encode(ROWS[0], BPE), task.collate)
    hidden = torch.randn(3, 8)
    plain = run_head(head, hidden, batch)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run_head(head, hidden, batch), plain)


def test_without_shared_words_the_text_alone_is_read() -> None:
    task = made(shared_words=False)
    assert task.state() == {}
    assert all("shared" not in one.note for one in task.encode(ROWS[0], BPE))
    assert task.build_head(8)(torch.randn(3, 8)).shape == (3, 1)


@pytest.mark.parametrize("damaged", [{}, {"texts": 3, "counts": {"a": "many"}}, {"texts": 3, "counts": []}, "words"])
def test_damaged_counts_are_noticed_when_a_run_is_opened(damaged: Any) -> None:
    with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):  # `restore_task` names the file
        AnswerSelection().restore({"words": damaged})


def test_a_run_from_before_there_were_counts_reads_the_text_alone() -> None:
    task = AnswerSelection(AnswerSelectionConfig())
    task.restore({})
    assert not isinstance(task.build_head(8), SharedWordsHead)


def test_a_restored_task_reads_candidates_as_the_trained_one_does() -> None:
    task, again = made(), AnswerSelection(AnswerSelectionConfig())
    again.restore(json.loads(json.dumps(task.state())))
    notes = [[one.note for one in some.encode(ROWS[0], BPE)] for some in (task, again)]
    assert notes[0] == notes[1]
    assert isinstance(again.build_head(8), SharedWordsHead)
