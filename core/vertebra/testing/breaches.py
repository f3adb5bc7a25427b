"""What a check finds: a broken promise, where in the code, and what the usual cause is."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vertebra.testing.promises import Promise


@dataclass(frozen=True)
class Breach:
    """One way in which a promise does not hold."""

    where: str
    """The method or the file to look at."""
    what: str
    """What was seen."""
    cause: str
    """What it usually comes from, and what to do."""


class BrokenPromisesError(AssertionError):
    """A task breaks promises: `breaches` has all that was found, by the promise's name."""

    def __init__(self, task: str, breaches: Mapping[Promise, Sequence[Breach]], unchecked: Mapping[str, str]) -> None:
        self.breaches = {promise.name: tuple(some) for promise, some in breaches.items()}
        self.unchecked = dict(unchecked)
        count = len(breaches)
        parts = [f"Task '{task}' breaks {count} promise{'s' if count > 1 else ''}."]
        parts += [describe(promise, some) for promise, some in breaches.items()]
        parts += [f"{name}: not tried, {why}" for name, why in unchecked.items()]
        super().__init__("\n\n".join(parts))


class DoesNotApplyError(Exception):
    """Raised by a check: the promise is none of this task's, and why."""


class UnmetError(Exception):
    """Raised where a check needs what another one, which has said so, could not make."""


def describe(promise: Promise, breaches: Sequence[Breach]) -> str:
    """Return what a person reads of one broken promise."""
    lines = [f"{promise.name}: {promise.says}"]
    for breach in breaches:
        lines += [
            f"  where:        {breach.where}",
            f"  what:         {breach.what}",
            f"  usual cause:  {breach.cause}",
        ]
    return "\n".join(lines)


def place(owner: type, method: str) -> str:
    """Return where a class has a method: `Class.method (package/file.py:12)`."""
    definer = next((cls for cls in owner.__mro__ if method in vars(cls)), owner)
    try:
        code = inspect.unwrap(getattr(definer, method))
        return f"{definer.__name__}.{method} ({short(inspect.getfile(code))}:{inspect.getsourcelines(code)[1]})"
    except (TypeError, OSError, AttributeError):  # nothing that has source lines
        return f"{definer.__module__}.{definer.__name__}.{method}"


def culprit(error: BaseException, packages: Sequence[str], otherwise: str) -> str:
    """Return the innermost line of these packages that an error came through; `otherwise` where there is none."""
    frames: list[traceback.FrameSummary] = []
    link: BaseException | None = error
    while link is not None:
        frames = [*traceback.extract_tb(link.__traceback__), *frames]
        link = link.__cause__ or link.__context__
    own = [frame for frame in frames if any(f"/{package}/" in Path(frame.filename).as_posix() for package in packages)]
    return f"{own[-1].name} ({short(own[-1].filename)}:{own[-1].lineno})" if own else otherwise


def short(file: str) -> str:
    """Return a file with its folder, which is enough to find it."""
    return "/".join(Path(file).parts[-2:])
