"""The baseline that a language model should beat by far: frequencies of five tokens in a row.

Interpolated Kneser–Ney smoothing with three discounts an order (Chen and Goodman, 1999), on the backbone's tokens.

Letters: T tokens of the training text, U different n-grams of an order, W tokens of a window, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vertebra.tasks.baseline import Baseline
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.task import Row

ORDER = 5
LIMIT = 50_000_000
"""Training tokens that are counted, the first ones: a minute or two, and about 100 bytes of memory for each."""

Numbers = NDArray[np.int64]
Shares = NDArray[np.float64]
NONE = -1
"""The number of an n-gram that was not seen."""


class FiveGram(Baseline):
    """Each token by how often it followed the four before it, or where these are rare the three before it, and so on."""

    name: ClassVar[str] = f"{ORDER}-gram"
    summary: ClassVar[str] = "how often each token followed the four before it, smoothed as by Kneser and Ney"

    def fit(self, train: Sequence[Row], valid: Sequence[Row]) -> None:
        """Count the training tokens."""
        assert isinstance(self.task, CorpusTask)
        windows, size = [], 0
        for row in train:
            windows.append(np.asarray(row["tokens"], dtype=np.int64))
            size += len(windows[-1])
            if size >= LIMIT:
                break
        self.orders = count_orders(np.concatenate(windows), len(self.task.tokenizer))

    def predict(self, rows: Sequence[Row]) -> list[Any]:
        """Return the loss of each window, which is read by itself."""
        predictions = []
        for row in rows:
            tokens_W = np.asarray(row["tokens"], dtype=np.int64)
            shares_W, likeliest_W = score(self.orders, tokens_W, len(self.task.tokenizer))  # type: ignore[attr-defined]
            right = int((likeliest_W == tokens_W).sum())
            predictions.append({"nats": float(-np.log(shares_W).sum()), "tokens": len(tokens_W), "right": right})
        return predictions


@dataclass(frozen=True)
class Order:
    """All n-grams of one length. An n-gram's number is its place here; its context has the number that one less has."""

    keys_U: Numbers
    """context · V + token, sorted."""
    shares_U: Shares
    """The discounted share of the token among what followed the context."""
    rest: Shares
    """For each context, the share that is left for shorter ones; 1 where nothing followed it."""
    likeliest: Numbers
    """For each context, the token that followed it most often; `NONE` where nothing did."""

    def find(self, keys: Numbers) -> Numbers:
        """Return the numbers of n-grams, `NONE` for those that were not seen."""
        places = np.searchsorted(self.keys_U, keys)
        found = places < len(self.keys_U)
        found[found] = self.keys_U[places[found]] == keys[found]
        return np.where(found, places, NONE)


def count_orders(tokens_T: Numbers, vocabulary: int) -> list[Order]:
    """Return the orders from 1 to `ORDER` of a text."""
    keys, firsts, numbers = [], [], []
    number_T = np.zeros(len(tokens_T), dtype=np.int64)  # of the n-gram that ends at each place; none is shorter than 1
    seen = [1]
    for length in range(1, ORDER + 1):
        contexts = np.zeros_like(tokens_T) if length == 1 else np.roll(number_T, 1)
        key_T = (contexts * vocabulary + tokens_T)[length - 1 :]
        keys_U, first_U, within = np.unique(key_T, return_index=True, return_inverse=True)
        number_T = np.concatenate([np.full(min(length - 1, len(tokens_T)), NONE), within])
        keys.append(keys_U)
        firsts.append(first_U + length - 1)
        numbers.append(number_T)
        seen.append(len(keys_U))
    orders = []
    for length in range(1, min(ORDER, len(tokens_T)) + 1):
        number_T = numbers[length - 1]
        # Of shorter ones it counts how many different tokens stood before them: "Francisco" is frequent, but after "San" alone.
        places = number_T[firsts[length]] if length < ORDER else number_T[length - 1 :]
        counts_U = np.bincount(places, minlength=len(keys[length - 1])).astype(np.float64)
        orders.append(_order(keys[length - 1], counts_U, seen[length - 1], vocabulary))
    return orders


def _order(keys_U: Numbers, counts_U: Shares, contexts: int, vocabulary: int) -> Order:
    context_U, token_U = np.divmod(keys_U, vocabulary)
    discounts_U = _discounts(counts_U)[np.minimum(counts_U, 3).astype(np.int64)]
    totals = np.bincount(context_U, counts_U, minlength=contexts)
    taken = np.bincount(context_U, discounts_U, minlength=contexts)
    followed = totals > 0
    rest = np.divide(taken, totals, out=np.ones(contexts), where=followed)
    shares_U = np.divide(
        counts_U - discounts_U, totals[context_U], out=np.zeros(len(keys_U)), where=followed[context_U]
    )
    likeliest = np.full(contexts, NONE)
    # Written in the order of rising counts, so that the greatest stays; of equals, the lowest token.
    by_count = np.lexsort((-token_U, counts_U))
    likeliest[context_U[by_count]] = token_U[by_count]
    return Order(keys_U, shares_U, rest, likeliest)


def _discounts(counts_U: Shares) -> Shares:
    """Return what is taken from counts of 0, 1, 2, and 3 or more (Chen and Goodman 1999, equation 17)."""
    ones, twos, threes, fours = (float((counts_U == count).sum()) for count in (1, 2, 3, 4))
    if ones and twos and threes:
        share = ones / (ones + 2 * twos)
        estimates = [1 - 2 * share * twos / ones, 2 - 3 * share * threes / twos, 3 - 4 * share * fours / threes]
        if all(estimate > 0 for estimate in estimates):
            return np.array([0.0, *estimates])
    # Too small or too repetitive a text to estimate them. A discount of 0 would leave nothing for tokens not seen before.
    return np.array([0.0, 0.5, 0.5, 0.5])


def score(orders: Sequence[Order], tokens_W: Numbers, vocabulary: int) -> tuple[Shares, Numbers]:
    """Return the probability of each token of a window, and the likeliest token by the longest context that was seen."""
    shares_W = np.full(len(tokens_W), 1 / vocabulary)
    likeliest_W = np.full(len(tokens_W), NONE)
    context_W = np.zeros(len(tokens_W), dtype=np.int64)
    for order in orders:
        known = context_W != NONE
        place_W = np.where(known, order.find(context_W * vocabulary + tokens_W), NONE)
        rest_W = np.where(known, order.rest[context_W], 1.0)
        shares_W = rest_W * shares_W + np.where(place_W != NONE, order.shares_U[place_W], 0.0)
        best_W = np.where(known, order.likeliest[context_W], NONE)
        likeliest_W = np.where(best_W != NONE, best_W, likeliest_W)
        # The context of the next order is the n-gram that ends one place before; the window's first has none.
        context_W = np.concatenate([[NONE], place_W[:-1]])
    return shares_W, likeliest_W
