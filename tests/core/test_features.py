"""Features: windows and truncation lose and double nothing that they promise to keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vertebra.tasks.features import Features


@st.composite
def long_features(draw: st.DrawFn) -> tuple[Features, int, int]:
    """A sequence with a target on some of its tokens, a limit, and an overlap that fits it."""
    length = draw(st.integers(1, 200))
    positions = sorted(draw(st.sets(st.integers(0, length - 1))))
    limit = draw(st.integers(1, 60))
    overlap = draw(st.integers(0, limit - 1))
    return Features(np.arange(length), target=[f"label {p}" for p in positions], positions=positions), limit, overlap


@given(long_features())
def test_windows_keep_every_target_once_and_in_order(case: tuple[Features, int, int]) -> None:
    features, limit, overlap = case
    windows = list(features.windows(limit, overlap))
    assert [label for one in windows for label in one.target] == features.target
    # A target stays on its own token, which here is its place in the whole text.
    assert [f"label {token}" for one in windows for token in one.input_ids[one.positions]] == features.target


@given(long_features())
def test_windows_are_pieces_of_the_text_that_fit_and_cover_it(case: tuple[Features, int, int]) -> None:
    features, limit, overlap = case
    windows = list(features.windows(limit, overlap))
    assert [one.window for one in windows] == list(range(len(windows)))
    assert all(0 < len(one) <= limit for one in windows)
    assert all((np.diff(one.input_ids) == 1).all() for one in windows)
    assert {token for one in windows for token in one.input_ids.tolist()} == set(range(len(features)))


@given(long_features())
def test_a_position_is_never_nearer_to_an_edge_than_in_another_window(case: tuple[Features, int, int]) -> None:
    features, limit, overlap = case
    windows = list(features.windows(limit, overlap))

    def room(window: Features, token: int) -> int:
        """How many tokens of context the window has on the poorer side, where the text goes on there."""
        first, last = int(window.input_ids[0]), int(window.input_ids[-1])
        left = len(features) if first == 0 else token - first
        right = len(features) if last == len(features) - 1 else last - token
        return min(left, right)

    for window in windows:
        for token in window.input_ids[window.positions].tolist():
            others = [room(other, token) for other in windows if token in other.input_ids]
            # An overlap of an even number of tokens has no middle one: the nearer edge may then be nearer by one.
            assert room(window, token) >= max(others) - 1


def test_a_text_that_fits_is_one_window_as_it_is() -> None:
    features = Features([1, 2, 3], target=["a"], positions=[1])
    assert list(features.windows(3)) == [features]


@pytest.mark.parametrize("overlap", [-1, 8, 9])
def test_an_overlap_as_large_as_the_window_is_refused(overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap must be at least 0 and below the window's 8 tokens"):
        list(Features(np.arange(20)).windows(8, overlap))


@given(long_features())
def test_truncation_keeps_the_targets_of_the_tokens_that_stay(case: tuple[Features, int, int]) -> None:
    features, limit, _ = case
    cut = features.truncated(limit)
    assert cut.input_ids.tolist() == features.input_ids.tolist()[:limit]
    assert cut.target == [f"label {p}" for p in features.positions.tolist() if p < limit]
    assert cut.input_ids[cut.positions].tolist() == [p for p in features.positions.tolist() if p < limit]


def test_truncation_moves_the_one_position_of_a_sequence_target_to_the_new_end() -> None:
    cut = Features(np.arange(10), target=3).truncated(4)
    assert (cut.positions.tolist(), cut.target, cut.n_targets) == ([3], 3, 1)


def test_the_last_token_speaks_for_a_sequence_unless_told_otherwise() -> None:
    assert Features([5, 6, 7]).positions.tolist() == [2]
    assert Features([]).positions.tolist() == []
    assert Features([5, 6, 7], positions=[]).positions.tolist() == []


def test_what_a_tokenizer_returns_is_taken_as_it_is() -> None:
    class Encoding:
        input_ids = (5, 6)

    assert Features(Encoding()).input_ids.tolist() == [5, 6]  # type: ignore[arg-type]


def test_targets_are_counted_by_position_by_sequence_or_not_at_all() -> None:
    assert Features([1, 2], target=[0, 1], positions=[0, 1]).n_targets == 2
    assert Features([1, 2], target=[], positions=[]).n_targets == 0
    assert Features([1, 2], target=0).n_targets == 1
    assert Features([1, 2]).n_targets == 0
