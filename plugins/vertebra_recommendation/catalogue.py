"""The catalogue: the items that can be recommended, each with a number, a title, a text, and how often it was taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vertebra.errors import DataError
from vertebra.names import did_you_mean

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Catalogue:
    """Items by number, in the order of their table; new ones come behind those that were there in training."""

    items: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    """How often each item stands in the training histories; 0 for a cold one."""

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each item."""
        return {item: number for number, item in enumerate(self.items)}

    @cached_property
    def counts(self) -> Counts:
        """(I,) how often each item was taken."""
        return np.asarray(self.taken, dtype=np.int64)

    @cached_property
    def warm(self) -> NDArray[np.int64]:
        """The numbers of the items in the training histories."""
        return np.flatnonzero(self.counts)

    def find(self, items: Iterable[str]) -> list[int]:
        """Return the numbers of items; `DataError` for one that is not there, or is no text."""
        found = []
        for item in items:
            if not isinstance(item, str):
                raise DataError(f"an item is named by a text, not by {item!r:.60}.")
            number = self.numbers.get(item)
            if number is None:
                near = did_you_mean(str(item), self.items)
                raise DataError(f"item {item!r} is not among the {len(self)} items of the catalogue.{near}")
            found.append(number)
        return found

    def with_table(self, rows: Sequence[dict[str, Any]]) -> Catalogue:
        """Return the catalogue with the items of a table: texts of known items as the table has them, new items behind them."""
        seen: dict[str, int] = {}
        for number, row in enumerate(rows, start=1):
            for column in ("item", "text"):
                if not row[column].strip():
                    raise DataError(f"items row {number}: column '{column}' is empty (item {row['item']!r}).")
            if row["item"] in seen:
                raise DataError(f"items row {number}: item {row['item']!r} is that of row {seen[row['item']]}, too.")
            seen[row["item"]] = number
        table = {row["item"]: row for row in rows}
        old = {item: {"title": title, "text": text} for item, title, text in zip(*self._columns(), strict=True)}
        merged = old | table
        taken = self.taken + [0] * (len(merged) - len(self))
        return Catalogue(
            list(merged), [row["title"] for row in merged.values()], [row["text"] for row in merged.values()], taken
        )

    def counted(self, histories: Iterable[Iterable[str]]) -> Catalogue:
        """Return the catalogue with how often each item stands in these histories."""
        counts = Counter(item for history in histories for item in history)
        return Catalogue(self.items, self.titles, self.texts, [counts[item] for item in self.items])

    def _columns(self) -> tuple[list[str], list[str], list[str]]:
        return self.items, self.titles, self.texts
