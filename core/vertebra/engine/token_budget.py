"""The token budget: how much is computed at once, and less of it when memory runs out.

What a step learns is a sum over its pieces, so smaller pieces change nothing in it. Each process has a budget of its own and
cuts its own part of a step, so none has to tell the others when its memory runs out; they agree when they save.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

from vertebra.engine.packing import cut
from vertebra.errors import RunError
from vertebra.tasks.features import Features

Result = TypeVar("Result")
Piece = Sequence[Features]

MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUBLAS_STATUS_ALLOC",
)
"""How torch says it where it has no class for it."""


class PieceTooLargeError(Exception):
    """A piece was too large for the memory."""

    def __init__(self, piece: Piece) -> None:
        super().__init__(f"{sum(map(len, piece))} tokens do not fit into memory")
        self.piece = piece


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(error, RuntimeError) and any(message in str(error) for message in MESSAGES))


@contextmanager
def memory_for(piece: Piece) -> Iterator[None]:
    """Raise `PieceTooLargeError` where memory runs out in the block."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise PieceTooLargeError(piece) from error


class TokenBudget:
    """At most this many tokens in one forward pass."""

    def __init__(self, tokens: int, *, fixed: bool = False) -> None:
        """`fixed` is one that cannot be lowered, because other processes wait within the same pass."""
        self.tokens = tokens
        self.fixed = fixed
        self.tell: Callable[[str], None] = lambda note: print(note, file=sys.stderr)
        """Where the line goes that says that the budget became smaller."""

    def until_it_fits(
        self, compute: Callable[[], Result], again: Callable[[], None], name: Callable[[Piece], str]
    ) -> Result:
        """Return what `compute` makes within the budget; where it raises `PieceTooLargeError`, halve the budget and repeat.

        `again` is called before each repetition. `name` names the example of a piece, for the `RunError` that comes where
        one sequence does not fit.
        """
        before = self.tokens
        while True:
            try:
                result = compute()
                break
            except PieceTooLargeError as error:
                piece = error.piece
            self._lower(piece, name)
            again()
        self._say_if_lower_than(before)
        return result

    def agree(self, smallest: Callable[[int], int]) -> None:
        """Go on with the smallest budget of all processes, which `smallest` finds."""
        before = self.tokens
        self.tokens = smallest(before)
        self._say_if_lower_than(before)

    def in_pieces(
        self,
        features: Sequence[Features],
        compute: Callable[[Piece], Result],
        name: Callable[[Piece], str],
        *,
        padded: bool,
    ) -> Iterator[Result]:
        """Yield what `compute` makes of each piece of the features; where one is too large, all that are left are cut anew."""
        pieces = cut(features, self.tokens, padded=padded)

        def compute_first() -> Result:
            with memory_for(pieces[0]):
                return compute(pieces[0])

        def cut_anew() -> None:
            pieces[:] = cut([one for piece in pieces for one in piece], self.tokens, padded=padded)

        while pieces:
            yield self.until_it_fits(compute_first, cut_anew, name)
            pieces.pop(0)

    def _say_if_lower_than(self, before: int) -> None:
        if self.tokens < before:
            self.tell(
                f"Memory ran out: going on with {self.tokens} tokens a pass instead of {before}; "
                "the batch size stays what it was."
            )

    def _lower(self, piece: Piece, name: Callable[[Piece], str]) -> None:
        if self.fixed:
            raise RunError(
                f"The {sum(map(len, piece))} tokens of {name(piece)} do not fit into memory at once, and processes that share "
                "the weights must all make the same passes. Start a run with a smaller gpu.token_budget than "
                f"{self.tokens}, or with backbone.gradient_checkpointing=true."
            )
        if len(piece) == 1:
            raise RunError(
                f"The {len(piece[0])} tokens of {name(piece)} do not fit into memory, and a sequence cannot be divided. "
                "Use a smaller backbone.context or, in training, backbone.gradient_checkpointing=true."
            )
        self.tokens = max(1, min(self.tokens, sum(map(len, piece))) // 2)
        # What the failed pass held may hang in the cycles of a traceback.
        gc.collect()
        torch.cuda.empty_cache()
