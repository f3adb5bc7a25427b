"""`check_task`: try every promise of one task, and say all that is broken in one error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vertebra.errors import VertebraError
from vertebra.host.hooks import describe
from vertebra.names import unknown
from vertebra.testing.breaches import Breach, BrokenPromisesError, DoesNotApplyError, UnmetError, culprit
from vertebra.testing.promises import PROMISES, Promise

if TYPE_CHECKING:
    from vertebra.tasks.task import Task
    from vertebra.testing.case import Case, KnownScore


def check_task(
    task: str | type[Task],
    *,
    data: str | Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    min_score: float | None = None,
    known_scores: Sequence[KnownScore] = (),
    only: Iterable[str] = (),
    skip: Mapping[str, str] | None = None,
) -> None:
    """Try the promises of a task of an installed plugin, on a few rows and a tiny backbone; return when all hold.

    `task` is a registered name or the class itself. `data` and `settings` are what `vertebra.configure` takes as `data` and
    as a task's settings; by default the task's own sample and its defaults. `trainer` changes how the sample is learnt, as
    in `{"max_steps": 300}`, and `min_score` is what its first metric must reach on the rows that were learnt. `known_scores`
    are cases of metrics: (metric, predictions, references, score). `only` names the promises that are tried, by default
    all of `PROMISES`; `skip` those that are not, each with its reason.

    Raises `BrokenPromisesError`, an `AssertionError`, with everything that is broken: which promise, where, what was seen, and
    the usual cause. Raises `ValueError` for the name of no promise, or one that is skipped without a reason.
    """
    from vertebra.testing.case import Case

    promises = chosen(only, skip or {})
    breaches: dict[Promise, list[Breach]] = {}
    unchecked: dict[str, str] = {}
    with TemporaryDirectory(prefix="vertebra-testing-") as folder:
        case = Case(
            task,
            Path(folder),
            data=data,
            settings=settings or {},
            trainer=trainer or {},
            min_score=min_score,
            known_scores=known_scores,
        )
        for promise in promises:
            try:
                found = find_breaches(promise, case)
            except DoesNotApplyError:
                continue
            except UnmetError as reason:
                unchecked[promise.name] = str(reason)
                continue
            if found:
                breaches[promise] = found
    if breaches:
        raise BrokenPromisesError(task if isinstance(task, str) else task.__name__, breaches, unchecked)


def chosen(only: Iterable[str], skip: Mapping[str, str]) -> list[Promise]:
    """Return the promises to try; `ValueError` for a name of none, and for a reason that says nothing."""
    names = [promise.name for promise in PROMISES]
    wanted = [only] if isinstance(only, str) else list(only)
    for name in [*wanted, *skip]:
        if name not in names:
            raise ValueError(unknown("promise", name, names))
    for name, reason in skip.items():
        if not reason.strip():
            raise ValueError(f"The promise '{name}' is skipped without a reason: say why it does not hold.")
    return [promise for promise in PROMISES if promise.name in (wanted or names) and promise.name not in skip]


def find_breaches(promise: Promise, case: Case) -> list[Breach]:
    """Run one check; what the task raises in it is a breach, too.

    Raises `DoesNotApplyError` and `UnmetError` as the check does.
    """
    check = promise.load()
    try:
        with case.isolated():
            return list(check(case))
    except (DoesNotApplyError, UnmetError):
        raise
    except Exception as error:
        said = str(error) if isinstance(error, VertebraError) else describe(error)
        notes = " ".join(getattr(error, "__notes__", ()))
        where = culprit(error, case.packages, case.name)
        cause = "the code raises where it should do its work: the traceback of this error shows the way to that line"
        return [Breach(where, f"it stops with {said} {notes}".strip(), cause)]
