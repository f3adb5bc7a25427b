"""Windows of a corpus: examples that are made of its tokens when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar, overload

import numpy as np

from vertebra.data.corpus import Corpus
from vertebra.tasks.features import Features, Ids, MakePiece

Row = dict[str, Any]
T = TypeVar("T")


class Made(Sequence[T]):
    """A sequence whose entries are made when they are asked for."""

    @abstractmethod
    def make(self, number: int) -> T:
        """Return an entry by its number, at least 0 and below the length."""

    @overload
    def __getitem__(self, number: int) -> T: ...
    @overload
    def __getitem__(self, number: slice) -> list[T]: ...
    def __getitem__(self, number: int | slice) -> T | list[T]:
        """Return an entry, or those of a slice; `IndexError` beyond the ends."""
        numbers = range(len(self))[number]
        return [self.make(one) for one in numbers] if isinstance(numbers, range) else self.make(numbers)


class Windows(Made[list[Features]]):
    """Stretches of `length` tokens, one behind the other. A window has a piece for each document that it touches.

    Nothing is held but where pieces begin, so that a corpus may be larger than memory.
    """

    def __init__(self, corpus: Corpus, length: int, end_of_text: int, make: MakePiece, part: slice) -> None:
        """`part` says which of the corpus's windows these are."""
        self.corpus, self.length, self._make = corpus, length, make
        first, stop, _ = part.indices(n_windows(corpus, length))
        self._from, self._to = first * length, min(stop * length, len(corpus))
        tokens = corpus.tokens[self._from : self._to]
        documents = self._from + np.flatnonzero(tokens == end_of_text)
        self._begins = np.union1d(np.arange(self._from, self._to, length), documents)
        self._documents = len(documents)
        self._count = stop - first

    def __len__(self) -> int:
        return self._count

    def make(self, number: int) -> list[Features]:
        """Return the pieces of a window."""
        start, stop = self.place(number)
        first, last = np.searchsorted(self._begins, (start, stop))
        return [replace(self.piece(int(one)), window=int(one - first)) for one in range(first, last)]

    def place(self, number: int) -> tuple[int, int]:
        """Return where a window begins and ends in the corpus."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        start = self._from + int(number) * self.length
        return start, min(start + self.length, self._to)

    @property
    def n_tokens(self) -> int:
        """The tokens of all windows."""
        return self._to - self._from

    @property
    def n_documents(self) -> int:
        """How many documents begin in these windows."""
        return self._documents

    @property
    def n_pieces(self) -> int:
        """How many pieces all windows have."""
        return len(self._begins)

    def piece(self, number: int) -> Features:
        """Return a piece, counted over all windows."""
        start = int(self._begins[number])
        stop = int(self._begins[number + 1]) if number + 1 < len(self._begins) else self._to
        ids = self.corpus.tokens[start : stop + 1].astype(np.int32)
        made = self._make(ids[:-1], ids[1:], number)
        return replace(made, example=(start - self._from) // self.length)


def n_windows(corpus: Corpus, length: int) -> int:
    """Return how many windows a corpus has; the last one may be shorter."""
    return -(-len(corpus) // length)


class Readings(Made[list[Features]]):
    """The windows of a corpus several times, one time behind the other, each time made into features of another kind."""

    def __init__(self, readings: Sequence[Windows]) -> None:
        self.readings = readings

    def __len__(self) -> int:
        return sum(map(len, self.readings))

    def make(self, number: int) -> list[Features]:
        """Return the pieces of a window."""
        reading, window = divmod(number, len(self.readings[0]))
        return self.readings[reading][window]


class Pieces(Made[Features]):
    """The pieces of all windows as one sequence."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows

    def __len__(self) -> int:
        return self.windows.n_pieces

    def __iter__(self) -> Iterator[Features]:
        for pieces in self.windows:
            yield from pieces

    def make(self, number: int) -> Features:
        """Return a piece."""
        return self.windows.piece(number)


class WindowRows(Made[Row]):
    """The rows that windows stand for."""

    def __init__(self, windows: Windows, make: Callable[[Ids, str], Row], split: str) -> None:
        """`make` makes a row of a window's tokens, with the one behind the last of them, and the row's name."""
        self.windows, self._make, self._split = windows, make, split

    def __len__(self) -> int:
        return len(self.windows)

    def make(self, number: int) -> Row:
        """Return a row."""
        start, stop = self.windows.place(number)
        tokens = self.windows.corpus.tokens[start : stop + 1].astype(np.int32)
        return self._make(tokens, f"{self._split}-{number + 1}")
