"""The conformance kit: does a task keep the promises that the core and its users rely on?

`check_task` tries them by running the task on a few rows of its sample with a tiny backbone. `pytest --vertebra-plugin
NAME` does the same for every task of a plugin, a test for each promise. Importing this package imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vertebra.testing.breaches import Breach as Breach
    from vertebra.testing.breaches import BrokenPromisesError as BrokenPromisesError
    from vertebra.testing.kit import check_task as check_task
    from vertebra.testing.promises import PROMISES as PROMISES
    from vertebra.testing.promises import Promise as Promise

_HOME = {
    "Breach": "vertebra.testing.breaches",
    "BrokenPromisesError": "vertebra.testing.breaches",
    "PROMISES": "vertebra.testing.promises",
    "Promise": "vertebra.testing.promises",
    "check_task": "vertebra.testing.kit",
}

__all__ = ["PROMISES", "Breach", "BrokenPromisesError", "Promise", "check_task"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vertebra.testing' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
