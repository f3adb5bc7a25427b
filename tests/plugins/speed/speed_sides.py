"""Sides that a worker makes in the tests."""

from __future__ import annotations

import os
import signal

from vertebra.errors import DataError


class Adder:
    """Adds up, in a process of its own."""

    def __init__(self, start: int) -> None:
        self.sum = start

    def add(self, number: int) -> dict[str, int]:
        print(f"adding {number}")
        self.sum += number
        return {"sum": self.sum, "process": os.getpid()}

    def fail(self) -> None:
        raise KeyError("over\nhere")

    def refuse(self) -> None:
        raise DataError("The data is not there. Give other data.")

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def environment() -> dict[str, str]:
    return dict(os.environ)
