"""Which errors the report shows, and how they are set against their references."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vertebra.report.examples import Example, Fragment, compare, compare_texts, make_example, worst_errors


def line(number: int, prediction: Any, reference: Any, score: float | None = 0.0, **inputs: Any) -> dict[str, Any]:
    inputs = inputs or {"text": "some text"}
    return {
        "id": f"test-{number}",
        "split": "test",
        "input": inputs,
        "prediction": prediction,
        "reference": reference,
        "score": score,
    }


def joined(fragments: tuple[Fragment, ...]) -> str:
    return "".join(fragment.text for fragment in fragments)


def differing(fragments: tuple[Fragment, ...]) -> list[str]:
    return [fragment.text for fragment in fragments if fragment.differs]


def test_the_lowest_scores_come_first_and_right_predictions_never() -> None:
    lines = [
        line(0, "a", "a", 0.0),  # right, though its own score is 0: nothing to find in it
        line(1, "a", "b", 0.5),
        line(2, "a", "b", 0.1),
        line(3, "a", "b", 0.9),
    ]
    found = worst_errors(iter(lines), at_most=2)
    assert [example.id for example in found.examples] == ["test-2", "test-1"]
    assert (found.wrong, found.total) == (3, 4)


def test_more_wrong_labels_are_worse_among_equal_scores() -> None:
    tokens = ["a", "b", "c"]
    lines = [
        line(0, ["O", "O", "X"], ["O", "O", "Y"], tokens=tokens),
        line(1, ["X", "X", "X"], ["O", "O", "Y"], tokens=tokens),
    ]
    assert [example.id for example in worst_errors(lines).examples] == ["test-1", "test-0"]


def test_where_lower_is_better_the_highest_score_is_the_worst() -> None:
    lines = [line(0, 0.4, 0.5, 0.1), line(1, 0.9, 0.1, 0.8), line(2, 0.3, 0.1, 0.2)]
    found = worst_errors(lines, at_most=2, higher_is_better=False)
    assert [example.id for example in found.examples] == ["test-1", "test-2"]


def test_a_prediction_without_a_score_is_shown() -> None:
    assert worst_errors([line(0, "a", "b", None)]).examples[0].score is None


def test_labels_stand_against_the_tokens_of_the_input() -> None:
    example = make_example(line(0, ["PER", "O"], ["LOC", "O"], tokens=["Paris", "sleeps"], source="news"))
    assert [(token.text, token.reference, token.prediction, token.differs) for token in example.tokens] == [
        ("Paris", "LOC", "PER", True),
        ("sleeps", "O", "O", False),
    ]
    assert example.inputs == (("source", "news"),)


def test_the_label_of_most_tokens_is_found_only_where_there_is_one() -> None:
    tokens = ["a", "b", "c"]
    assert worst_errors([line(0, ["O", "O", "X"], ["O", "O", "Y"], tokens=tokens)]).common_label == "O"
    assert worst_errors([line(0, ["X", "Y", "X"], ["X", "Y", "Z"], tokens=tokens)]).common_label is None
    assert worst_errors([line(0, "a", "b")]).common_label is None


@pytest.mark.parametrize(
    ("prediction", "reference", "inputs"),
    [
        (["O"], ["O", "X"], {"tokens": ["a", "b"]}),  # lengths differ
        (["O", "O"], ["O", "X"], {"tokens": ["a", "b", "c"]}),  # no column of that length
        ([1, 2], [1, 3], {"tokens": ["a", "b"]}),  # not labels
        ([], ["a"], {"tokens": []}),
    ],
)
def test_what_cannot_be_aligned_stands_side_by_side(prediction: Any, reference: Any, inputs: Any) -> None:
    example = make_example(line(0, prediction, reference, **inputs))
    assert not example.tokens
    assert example.reference or example.prediction


def test_words_that_only_one_side_has_are_marked() -> None:
    reference, prediction = compare_texts("the Denver Broncos won", "the Denver Nuggets won")
    assert differing(reference) == ["Broncos"]
    assert differing(prediction) == ["Nuggets"]


def test_chinese_is_compared_by_character() -> None:
    reference, prediction = compare_texts("北京大学成立", "清华大学成立")
    assert differing(reference) == ["北京"]
    assert differing(prediction) == ["清华"]


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_comparison_loses_no_character(one: str, other: str) -> None:
    ours, theirs = compare_texts(one, other)
    assert joined(ours) == one
    assert joined(theirs) == other
    assert not (one == other and (differing(ours) or differing(theirs)))


def test_objects_differ_by_key_and_lists_by_item() -> None:
    ours, theirs = compare({"answer": "red", "start": 3}, {"answer": "blue", "start": 3})
    assert differing(ours) == ["answer: red"]
    assert differing(theirs) == ["answer: blue"]
    ours, theirs = compare([{"type": "PER"}, {"type": "LOC"}], [{"type": "LOC"}])
    assert differing(ours) == ['{"type": "PER"}']
    assert differing(theirs) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(JSON, JSON, st.dictionaries(st.text(max_size=4), JSON, max_size=3))
def test_any_json_can_be_shown(prediction: Any, reference: Any, inputs: dict[str, Any]) -> None:
    example = make_example({**line(0, prediction, reference), "input": inputs})
    assert isinstance(example, Example)


def test_a_long_text_is_cut_and_says_by_how_much() -> None:
    example = make_example(line(0, "a", "b", text="x" * 5000))
    assert example.inputs[0][1].endswith("(3,500 characters more)")
