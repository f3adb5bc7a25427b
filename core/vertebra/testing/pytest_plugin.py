"""`pytest --vertebra-plugin NAME`: a test for each task of an installed plugin and each promise.

Without the option this does nothing; nothing heavy is imported before the first of these tests runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vertebra.host.manager import Host
    from vertebra.host.records import PluginRecord
    from vertebra.testing.case import Case
    from vertebra.testing.promises import Promise


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("vertebra", "conformance of Vertebra's plugins")
    group.addoption(
        "--vertebra-plugin",
        action="append",
        default=[],
        metavar="NAME",
        help="test every promise of each task of this installed plugin (its entry point, module or distribution)",
    )
    group.addoption(
        "--vertebra-skip",
        action="append",
        default=[],
        metavar="PROMISE=REASON",
        help="leave a promise out, and say why",
    )


@pytest.hookimpl(tryfirst=True)  # before -k and the like choose among the tests
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the tests of the named plugins to those that were found in files."""
    names = config.getoption("--vertebra-plugin")
    if not names:
        return
    skipped = dict(_reason(given) for given in config.getoption("--vertebra-skip"))
    from vertebra.host.manager import create_host

    host = create_host()
    for name in names:
        for task in _tasks_of(find_plugin(name, host)):
            items.extend(TaskTests.from_parent(session, name=task, nodeid=f"vertebra::{task}").tests(skipped))


def find_plugin(name: str, host: Host) -> PluginRecord:
    """Return the active plugin of that entry point, module or distribution; `pytest.UsageError` says what there is."""
    from importlib import metadata

    from vertebra.host.manager import ENTRY_POINTS
    from vertebra.names import unknown

    modules = {one.name: one.module for one in metadata.entry_points(group=ENTRY_POINTS)}
    for plugin in host.plugins:
        if name in (plugin.name, modules.get(plugin.name)) or name.replace("-", "_") == plugin.source.replace("-", "_"):
            if plugin.state != "active":
                raise pytest.UsageError(f"{plugin.absence[:1].upper()}{plugin.absence[1:]}.")
            return plugin
    known = [plugin.name for plugin in host.plugins if plugin.registers.get("task")]
    raise pytest.UsageError(f"{unknown('installed plugin', name, known)} Install it first: pip install -e .")


def _tasks_of(plugin: PluginRecord) -> Sequence[str]:
    tasks = plugin.registers.get("task", ())
    if not tasks:
        raise pytest.UsageError(f"The {plugin.label} registers no task: there is nothing to test.")
    return tasks


def _reason(given: str) -> tuple[str, str]:
    from vertebra.testing.kit import chosen

    name, _, reason = given.partition("=")
    try:
        chosen((), {name: reason})
    except ValueError as error:
        raise pytest.UsageError(f"--vertebra-skip {given}: {error}") from None
    return name, reason


class TaskTests(pytest.Collector):
    """The tests of one task, which share their runs."""

    _case: Case | None = None

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        """Return the tests."""
        return list(self.tests({}))

    def tests(self, skipped: dict[str, str]) -> Iterator[PromiseTest]:
        """Yield a test for each promise."""
        from vertebra.testing.promises import PROMISES

        for promise in PROMISES:
            yield PromiseTest.from_parent(
                self, name=promise.name, promise=promise, reason=skipped.get(promise.name, "")
            )

    @property
    def case(self) -> Case:
        """What the tests of this task share, made by the first one that runs."""
        if self._case is None:
            from pathlib import Path

            from vertebra.testing.case import Case

            folder = TemporaryDirectory(prefix="vertebra-testing-")
            self.config.add_cleanup(folder.cleanup)
            self._case = Case(self.name, Path(folder.name))
        return self._case


class PromiseTest(pytest.Item):
    """One promise of one task."""

    def __init__(self, *, promise: Promise, reason: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.promise, self.reason = promise, reason

    def runtest(self) -> None:
        """Try the promise; a promise that is none of this task's is skipped, with the reason."""
        from vertebra.testing.breaches import BrokenPromisesError, DoesNotApplyError, UnmetError
        from vertebra.testing.kit import find_breaches

        if self.reason:
            pytest.skip(self.reason)
        assert isinstance(self.parent, TaskTests)
        try:
            breaches = find_breaches(self.promise, self.parent.case)
        except DoesNotApplyError as reason:
            pytest.skip(str(reason))
        except UnmetError as reason:
            pytest.skip(f"not tried: {reason}")
        if breaches:
            raise BrokenPromisesError(self.parent.name, {self.promise: breaches}, {})

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return what is broken, without the kit's own traceback."""
        from vertebra.testing.breaches import BrokenPromisesError

        return (
            str(excinfo.value)
            if isinstance(excinfo.value, BrokenPromisesError)
            else super().repr_failure(excinfo, style)
        )

    def reportinfo(self) -> tuple[str, int | None, str]:
        """Return how reports call this test."""
        assert self.parent is not None
        return f"vertebra/{self.parent.name}", None, f"{self.parent.name}: {self.promise.says}"
