"""Histories cut into windows of whole items, so that each target stands in one of them, with items before it to be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Items that are read together, and those that follow the last places of them."""

    first: int
    """The place of the first item in the whole sequence."""
    items: list[int]
    targets: list[int]
    """What follows the last places: the last target follows all items. Empty where the next item is not known."""

    @property
    def wanted(self) -> int:
        """Places whose next item is wanted."""
        return max(1, len(self.targets))


def windows(
    sequence: Sequence[int],
    n_targets: int,
    max_items: int,
    lengths: Sequence[int] | None = None,
    max_length: int | None = None,
) -> Iterator[Window]:
    """Yield the windows of a sequence whose last `n_targets` items are to be predicted, from all before them; 0 for the next.

    A window has at most `max_items` items and, where they have `lengths`, these add up to at most `max_length`; one item is
    always taken. The last window ends where the sequence does. Where there are several, about half a window of items stands
    before the first target of each, so that no target has few items before it.
    """
    lengths = lengths or [1] * len(sequence)
    room = _Room(max_items, max_items if max_length is None else max_length)
    target = len(sequence) - n_targets
    last = len(sequence) - 1 if n_targets else target
    while target <= last:
        stop = _latest_stop(_earliest_first(target, lengths, room.half), target, last, lengths, room)
        first = _earliest_first(stop, lengths, room)
        yield Window(first, list(sequence[first:stop]), list(sequence[target : stop + 1]) if n_targets else [])
        target = stop + 1


@dataclass(frozen=True)
class _Room:
    """What a window can hold."""

    items: int
    length: int

    @property
    def half(self) -> _Room:
        return _Room(self.items // 2, self.length // 2)

    def holds(self, lengths: Sequence[int]) -> bool:
        return len(lengths) <= 1 or (len(lengths) <= self.items and sum(lengths) <= self.length)


def _earliest_first(stop: int, lengths: Sequence[int], room: _Room) -> int:
    """Return where the longest window begins that ends before `stop`."""
    first = stop
    while first > 0 and room.holds(lengths[first - 1 : stop]):
        first -= 1
    return first


def _latest_stop(first: int, target: int, last: int, lengths: Sequence[int], room: _Room) -> int:
    """Return where the longest window ends that begins at `first` and reaches the target."""
    stop = target
    while stop < last and room.holds(lengths[first : stop + 1]):
        stop += 1
    return stop
