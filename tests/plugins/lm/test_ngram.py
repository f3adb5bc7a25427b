"""The baseline of five tokens in a row, against counting written out."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vertebra_lm.ngram import NONE, ORDER, count_orders, score

V = 4
texts = arrays(np.int64, st.integers(1, 200), elements=st.integers(0, V - 1))


def discounts(counts: Counter[tuple[int, ...]]) -> list[float]:
    ones, twos, threes, fours = (sum(1 for count in counts.values() if count == n) for n in (1, 2, 3, 4))
    if ones and twos and threes:
        y = ones / (ones + 2 * twos)
        pairs = ((1, ones, twos), (2, twos, threes), (3, threes, fours))
        estimates = [n - (n + 1) * y * after / this for n, this, after in pairs]
        if min(estimates) > 0:
            return [0.0, *estimates]
    return [0.0, 0.5, 0.5, 0.5]


def probability(text: list[int], context: tuple[int, ...], token: int) -> float:
    """Interpolated Kneser-Ney, as the paper's recursion has it."""
    order = len(context) + 1
    grams = [tuple(text[i : i + order]) for i in range(len(text) - order + 1)]
    if order < ORDER:  # how many different tokens stood before
        longer = {tuple(text[i : i + order + 1]) for i in range(len(text) - order)}
        counts = Counter(dict.fromkeys(grams, 0))
        counts.update(gram[1:] for gram in longer)
    else:
        counts = Counter(grams)
    below = 1 / V if order == 1 else probability(text, context[1:], token)
    followed = {gram: count for gram, count in counts.items() if gram[:-1] == context}
    total = sum(followed.values())
    if not total:
        return below
    taken = discounts(counts)
    rest = sum(taken[min(count, 3)] for count in followed.values()) / total
    count = followed.get((*context, token), 0)
    return (count - taken[min(count, 3)]) / total + rest * below


@given(texts, arrays(np.int64, st.integers(1, 12), elements=st.integers(0, V - 1)))
@settings(max_examples=200, deadline=None)
def test_probabilities_are_those_of_the_recursion_written_out(text: np.ndarray, window: np.ndarray) -> None:
    shares, _ = score(count_orders(text, V), window, V)
    wanted = [
        probability(text.tolist(), tuple(window[max(0, i - ORDER + 1) : i].tolist()), int(window[i]))
        for i in range(len(window))
    ]
    np.testing.assert_allclose(shares, wanted, rtol=1e-9)


@given(texts, arrays(np.int64, st.integers(0, 6), elements=st.integers(0, V - 1)))
@settings(max_examples=200, deadline=None)
def test_anything_may_follow_any_context_and_all_adds_up_to_one(text: np.ndarray, context: np.ndarray) -> None:
    orders = count_orders(text, V)
    last = [score(orders, np.append(context, token), V)[0][-1] for token in range(V)]
    assert min(last) > 0
    assert np.isclose(sum(last), 1)


def test_the_likeliest_token_is_the_most_frequent_one_after_the_longest_context() -> None:
    text = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 1, 3])
    _, likeliest = score(count_orders(text, V), np.array([0, 1, 2, 3, 0, 1]), V)
    assert likeliest[1:].tolist() == [1, 2, 3, 0, 1]
    assert NONE not in likeliest
