"""How threads wait for each other: briefly, so that another process on the machine does not stop them.

A training step has thousands of places where OpenMP's threads wait for the last one. libgomp lets them spin there for
milliseconds. On cores that are all theirs this gains nothing that could be measured; where another process takes a core,
the thread that all wait for stands still while the others burn what it would need. Two threads on two cores beside four
other processes trained at 12 tokens a second so, and at 718 with the setting below.
"""

from __future__ import annotations

import os

SPINS = 1000
"""Turns before a thread sleeps, some microseconds: more than lies between two kernels, and far less than a time slice."""


def give_way() -> None:
    """Set it for this process and those that it starts, unless somebody has; without effect where torch is loaded already."""
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
