"""What the runs of one process share: rows, features, backbones, and what frozen ones make of the features.

Whatever a run may change it gets as a copy of what no run has touched, so that it is the run that it would be alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from vertebra.config.defaults import plain
from vertebra.data.keys import hashed

T = TypeVar("T")

KEEP = 2
"""How many of each kind are kept: backbones are large, and a sweep makes the runs that share one after the other."""


class Shared:
    """The last few things of each kind that runs have loaded; with `keep=0` nothing is kept, and nothing copied."""

    def __init__(self, keep: int = KEEP) -> None:
        self.keep = keep
        self._kept: dict[str, OrderedDict[str, Any]] = {}

    def get(self, kind: str, made_from: Any, make: Callable[[], T], own: Callable[[T], T] | None = None) -> T:
        """Return what `make` returns, or returned before for the same kind and the same plain values `made_from`.

        `own` copies what the caller may change.
        """
        if not self.keep:
            return make()
        kept, key = self._kept.setdefault(kind, OrderedDict()), hashed(plain(made_from))
        if key not in kept:
            while len(kept) >= self.keep:  # before, so that a large one makes room for the next
                kept.popitem(last=False)
            kept[key] = make()
        kept.move_to_end(key)
        found: T = kept[key]
        return own(found) if own else found
