"""From interactions to rows: who took what when, the last ones of each user held out.

Leave-one-out by time: a user's last item is the test row, the one before it the validation row, the rest the training row.
Equal times are ordered by item (numbers by value, other names by spelling), so that the split depends on the data alone and
not on the order of a file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vertebra.config.schema import Fraction, Strict
from vertebra.data.files import listed
from vertebra.data.readers import NotedRows
from vertebra.errors import DataError

FEWEST = 3
"""Interactions of a user, so that each split has one."""


@dataclass(frozen=True)
class InteractionOptions(Strict):
    """What `data.options` may set for every reader of interactions."""

    cold_items: Fraction = 0.0
    """The share of items that are held out of all training histories."""
    cold_seed: int = 0
    """The seed of that choice."""
    few: Literal["error", "skip"] = "error"
    """What happens to users with fewer than three interactions."""
    without_text: Literal["error", "skip"] = "error"
    """What happens to items without a text, and to their interactions."""
    repeats: Literal["error", "first", "keep"] = "error"
    """What happens where a user took an item several times: refuse, keep the first time, or keep all."""


@dataclass(frozen=True)
class Interaction:
    """A user took an item."""

    user: str
    item: str
    time: float
    where: str
    """File and line, for messages."""


Item = dict[str, Any]


def leave_one_out(interactions: Iterable[Interaction], items: Sequence[Item], options: InteractionOptions) -> NotedRows:
    """Return the rows of train, valid and test, and the table `items`.

    A training row has an empty `history` and all its items in `next`; the others have the one item that is to be predicted
    in `next` and all before it in `history`, but for cold items that only training would have seen.
    """
    kept, table, notes = _with_text(list(interactions), items, options)
    by_user, some = _by_user(kept, options)
    notes += some
    cold = _cold(table, options)
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "valid": [], "test": []}
    for user, history in by_user.items():
        *known, valid, test = history
        known = [item for item in known if item not in cold]
        if known:
            rows["train"].append({"id": user, "user": user, "history": [], "next": known})
        rows["valid"].append({"id": user, "user": user, "history": known, "next": [valid]})
        rows["test"].append({"id": user, "user": user, "history": [*known, valid], "next": [test]})
    if cold:
        of_test = sum(row["next"][0] in cold for row in rows["test"])
        notes.append(
            f"{len(cold)} of {len(table)} items (data.options.cold_items) stand in no training history; "
            f"they are the next item of {of_test} of {len(rows['test'])} test rows"
        )
    return NotedRows({**rows, "items": table}, notes)


def _with_text(
    interactions: list[Interaction], items: Sequence[Item], options: InteractionOptions
) -> tuple[list[Interaction], list[Item], list[str]]:
    """Return the interactions with items that have a text, these items, and a note on the others."""
    table = [item for item in items if item["text"].strip()]
    known = {item["item"] for item in table}
    lost = [one for one in interactions if one.item not in known]
    textless = [item["item"] for item in items if not item["text"].strip()]
    if not lost and not textless:
        return interactions, table, []
    names = list(dict.fromkeys([*textless, *(one.item for one in lost)]))
    first = f", first at {lost[0].where}" if lost else ""
    what = f"{len(names)} items have no text ({listed(names, 5)}), with {len(lost)} interactions{first}"
    if options.without_text == "error":
        raise DataError(f"{what}. Give them one, or leave them out: data.options.without_text=skip.")
    return [one for one in interactions if one.item in known], table, [f"{what}: skipped"]


def _by_user(interactions: list[Interaction], options: InteractionOptions) -> tuple[dict[str, list[str]], list[str]]:
    """Return the items of each user in the order of time, users in theirs of name, with notes on what was left out."""
    taken: dict[str, list[Interaction]] = defaultdict(list)
    for one in interactions:
        taken[one.user].append(one)
    repeated = 0
    histories: dict[str, list[str]] = {}
    few: list[Interaction] = []
    for user in sorted(taken, key=_order):
        ordered = sorted(taken[user], key=lambda one: (one.time, _order(one.item)))
        history = [one.item for one in ordered]
        if len(set(history)) < len(history) and options.repeats != "keep":
            if options.repeats == "error":
                again = next(one for number, one in enumerate(ordered) if one.item in history[:number])
                raise DataError(
                    f"{again.where}: user {user!r} took item {again.item!r} before. Keep the first time alone or all of "
                    "them: data.options.repeats=first or keep."
                )
            repeated += len(history) - len(set(history))
            history = list(dict.fromkeys(history))
        if len(history) < FEWEST:
            few.append(ordered[0])
        else:
            histories[user] = history
    first = f", the first at {few[0].where}" if few else ""
    what = f"{len(few)} users have fewer than {FEWEST} interactions ({listed([one.user for one in few], 5)}{first})"
    if few and options.few == "error":
        raise DataError(
            f"{what}: one each is needed for training, validation and test. Leave them out: data.options.few=skip."
        )
    notes = [f"{what}: skipped"] if few else []
    if repeated:
        notes.append(f"{repeated} repeated interactions left out (data.options.repeats=first)")
    return histories, notes


def _cold(table: Sequence[Item], options: InteractionOptions) -> set[str]:
    """Return the items that no training history may have."""
    count = round(options.cold_items * len(table))
    chosen = np.random.default_rng(options.cold_seed).permutation(len(table))[:count]
    return {table[number]["item"] for number in chosen.tolist()}


def _order(name: str) -> tuple[int, int, str]:
    """Return a key that puts whole numbers in the order of their values, before all other names."""
    return (0, int(name), "") if name.isascii() and name.isdigit() else (1, 0, name)
