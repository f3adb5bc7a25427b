"""What a side reads of its own process: seconds and memory."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import torch


class Clock:
    """Reads the wall clock and the process's own seconds; waits for a GPU, which works apart, before each reading."""

    def __init__(self, device: str) -> None:
        self._waits = device == "cuda"
        self.restart()

    def restart(self) -> None:
        """Start again from here."""
        self._wall, self._cpu = self._read()

    def turn(self, tokens: int, steps: int) -> dict[str, Any]:
        """Return the turn (`vertebra_speed.measure.Turn`) from the start to here."""
        wall, cpu = self._read()
        return {"wall": wall - self._wall, "cpu": cpu - self._cpu, "tokens": tokens, "steps": steps}

    def _read(self) -> tuple[float, float]:
        if self._waits:
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


def peak_memory(device: str) -> dict[str, Any]:
    """Return the most memory that this process has held, in bytes: resident, and on the GPU."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resident = peak if sys.platform == "darwin" else peak * 1024
    return {"resident": resident, "gpu": torch.cuda.max_memory_allocated() if device == "cuda" else 0}
