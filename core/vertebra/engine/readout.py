"""Numbers that the host reads from the device, without waiting for it.

Reading a GPU's number at once would wait until all work given to it is done, and then it would stand still until the host has
given it more. So a copy is sent on its way, and read when later work has been queued.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Other = TypeVar("Other")


class Arrival:
    """Copies of tensors on their way to the host."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        # From a GPU these are copies to pinned memory, which do not wait.
        self._copies = [tensor.detach().to("cpu", non_blocking=True) for tensor in tensors]
        self._event = torch.cuda.current_stream().record_event() if tensors[0].is_cuda else None

    def wait(self) -> list[Tensor]:
        """Return the tensors, when they have come."""
        if self._event is not None:
            self._event.synchronize()
        return self._copies


class Readout:
    """Hands numbers to those who asked for them: at once, or `late`, which is when the step after has been queued."""

    def __init__(self, *, late: bool) -> None:
        self.late = late
        self._waiting: list[Callable[[], None]] = []
        self._of_step_before = 0

    def read(self, values: Sequence[Tensor], then: Callable[..., None]) -> None:
        """Call `then` with the numbers in `values` (tensors of one element)."""
        if not self.late:
            then(*(float(value.detach()) for value in values))
            return
        arrival = Arrival([torch.stack([value.detach().float() for value in values])])
        self._waiting.append(lambda: then(*arrival.wait()[0].tolist()))

    def step_queued(self) -> None:
        """Hand out what was asked for before this step."""
        self._hand_out(self._of_step_before)
        self._of_step_before = len(self._waiting)

    def settle(self) -> None:
        """Hand out everything."""
        self._hand_out(len(self._waiting))
        self._of_step_before = 0

    def _hand_out(self, number: int) -> None:
        ready, self._waiting = self._waiting[:number], self._waiting[number:]
        for one in ready:
            one()


def arriving(results: Iterable[tuple[Other, Tensor, Tensor]], *, late: bool) -> Iterator[tuple[Other, Tensor, Tensor]]:
    """Yield each result with its tensors on the host: at once, or `late`, which is when the next one has been queued."""
    waiting: list[tuple[Other, Arrival]] = []
    for other, *tensors in results:
        waiting.append((other, Arrival(tensors)))
        if len(waiting) > late:
            yield _arrived(*waiting.pop(0))
    for one in waiting:
        yield _arrived(*one)


def _arrived(other: Other, arrival: Arrival) -> tuple[Other, Tensor, Tensor]:
    first, second = arrival.wait()
    return other, first, second
