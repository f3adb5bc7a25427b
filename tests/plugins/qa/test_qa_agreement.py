"""Exact match and F1: cases worked out by hand from the definitions of SQuAD and CMRC 2018."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vertebra.tasks.task import Task
from vertebra_qa.agreement import exact_match, f1, longest_common_run, normalised_words, split_units
from vertebra_qa.config import QAConfig
from vertebra_qa.metrics import AnswerF1, ExactMatch
from vertebra_qa.task import QA

WORDS = st.text("ab the,. é中", max_size=12)


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The  Cat", "cat"),
        ("a theory of an anthill", "theory of anthill"),  # articles only as whole words
        ("U.S.A.", "usa"),
        ("the-end", "theend"),  # punctuation goes before articles do
        ("A.", ""),
        ("«Paris»", "«paris»"),  # ASCII punctuation alone
        ("don't\tstop\n", "dont stop"),
    ],
)
def test_words_are_compared_as_squad_s_script_does(text: str, normalised: str) -> None:
    assert normalised_words(text) == normalised


@pytest.mark.parametrize(
    ("text", "answers", "exact", "overlap"),
    [
        ("the Eiffel Tower", ["Eiffel Tower!"], 1.0, 1.0),
        ("Eiffel", ["the Eiffel Tower"], 0.0, 2 * 1 * 0.5 / 1.5),
        ("in 1990 in", ["in 1990"], 0.0, 2 * (2 / 3) * 1 / (5 / 3)),  # a bag: the second "in" is not shared
        ("Tower Eiffel", ["Eiffel Tower"], 0.0, 1.0),  # the order does not count
        ("Rome", ["Paris", "Rome, Italy", "rome"], 1.0, 1.0),  # the best of several
        ("London", ["Paris", "Rome"], 0.0, 0.0),
        ("", [], 1.0, 1.0),  # rightly withheld
        ("Paris", [], 0.0, 0.0),
        ("", ["Paris"], 0.0, 0.0),
        ("the", [], 1.0, 1.0),  # nothing is left of it
        ("the", ["a"], 1.0, 1.0),
        ("x", ["the", "x"], 1.0, 1.0),  # an answer of which nothing is left is none
        ("the", ["the", "x"], 0.0, 0.0),
    ],
)
def test_scores_by_words(text: str, answers: list[str], exact: float, overlap: float) -> None:
    assert exact_match(text, answers) == exact
    assert f1(text, answers) == pytest.approx(overlap)


@pytest.mark.parametrize(
    ("text", "answers", "exact", "overlap"),
    [
        ("北京。", ["北京"], 1.0, 1.0),
        ("北京市", ["北京"], 0.0, 2 * 2 / 5),
        ("京北", ["北京"], 0.0, 2 * 1 / 4),  # a run, not a bag
        ("1966年 IBM", ["1966年"], 0.0, 2 * 2 / 5),  # units: 1966, 年, ibm
        ("《红楼梦》", ["红楼梦"], 1.0, 1.0),
        ("", ["北京"], 0.0, 0.0),
    ],
)
def test_scores_by_characters(text: str, answers: list[str], exact: float, overlap: float) -> None:
    assert exact_match(text, answers) == exact
    assert f1(text, answers) == pytest.approx(overlap)


def test_what_is_compared_can_be_set() -> None:
    assert f1("北京市", ["北京"], "words") == 0.0
    assert f1("one two", ["two one"], "words") == 1.0
    assert f1("one two", ["two one"], "characters") == 0.5
    assert split_units("GPT是1个模型!") == ["gpt", "是", "1", "个", "模", "型"]
    assert longest_common_run("abcd", "xbcy") == 2


@given(WORDS, st.lists(WORDS, max_size=3))
def test_scores_are_shares_and_an_answer_agrees_with_itself(text: str, answers: list[str]) -> None:
    for score_by in ("auto", "words", "characters"):
        exact, overlap = exact_match(text, answers, score_by), f1(text, answers, score_by)
        assert 0 <= exact <= 1 and 0 <= overlap <= 1
        assert overlap == 1 or not exact
        assert exact_match(text, [text], score_by) == f1(text, [text], score_by) == 1


def test_metrics_follow_the_task_s_settings() -> None:
    prediction, reference = {"text": "one two"}, {"answers": ["two one"]}
    by_characters: Task = QA(QAConfig(score_by="characters"))
    assert AnswerF1.for_task(QA()).value(prediction, reference) == 1.0
    assert AnswerF1.for_task(by_characters).value(prediction, reference) == 0.5
    assert ExactMatch.for_task(by_characters).value(prediction, reference) == 0.0
