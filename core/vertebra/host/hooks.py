"""What pluggy leaves open: refuse in words what it takes in silence, and name the plugin behind every failure."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

import pluggy

from vertebra.errors import PluginError, VertebraError
from vertebra.host.hookspecs import BehaviourHooks, RegisterHooks
from vertebra.host.records import DISABLE
from vertebra.host.refs import Ref
from vertebra.names import did_you_mean

CONFIG_PACKAGE = "config package"
TARGET = re.compile(r"[\w.]+:\w+")


@dataclass(frozen=True)
class Contribution:
    """What one plugin brings."""

    refs: tuple[Ref, ...]
    config_packages: tuple[str, ...]

    def by_kind(self) -> dict[str, tuple[str, ...]]:
        """Return the names by kind, in the order of the hooks."""
        named = [(ref.kind, ref.name) for ref in self.refs] + [(CONFIG_PACKAGE, name) for name in self.config_packages]
        return {kind: tuple(name for other, name in named if other == kind) for kind, _ in named}


def hook_names(hooks: type) -> list[str]:
    """Return the hooks that a class of specifications declares, in their order."""
    return [name for name in vars(hooks) if not name.startswith("_")]


def adopt(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
    """Register a plugin; a hook that is misspelt, unmarked or a wrapper is a `PluginError`, and nothing of it stays."""
    other = manager.get_name(plugin)
    if other is not None:
        raise PluginError(f"It is the same module as plugin '{other}'.")
    try:
        manager.register(plugin, name=name)
    except pluggy.PluginValidationError as error:
        raise PluginError(one_line(error)) from error
    try:
        _check_hooks(manager, plugin)
    except Exception:
        manager.unregister(name=name)
        raise


def collect(manager: pluggy.PluginManager, plugin: object) -> Contribution:
    """Fire the `register_*` hooks of one plugin and check what it brings."""
    brought = {hook: _brought(manager, plugin, hook) for hook in hook_names(RegisterHooks)}
    packages = brought.pop("register_config_packages")
    for package in packages:
        _check_config_package(package)
    return Contribution(tuple(ref for refs in brought.values() for ref in refs), tuple(packages))


def fire(manager: pluggy.PluginManager, hook: str, arguments: dict[str, Any]) -> None:
    """Call a hook of every plugin, in pluggy's order; an exception becomes a `PluginError` that names its plugin."""
    for implementation in reversed(getattr(manager.hook, hook).get_hookimpls()):
        try:
            implementation.function(*[arguments[name] for name in implementation.argnames])
        except VertebraError:
            raise
        except Exception as error:
            name = implementation.plugin_name
            raise PluginError(
                f"Plugin '{name}' failed in {hook}: {describe(error)}. Block it with {DISABLE}={name}."
            ) from error


def describe(error: BaseException) -> str:
    """Return the type and the message of an exception in one line."""
    return one_line(f"{type(error).__name__}: {error}").removesuffix(".")


def one_line(text: object) -> str:
    """Return the text with every run of white space as one space."""
    return " ".join(str(text).split())


def _implementations(manager: pluggy.PluginManager, plugin: object) -> list[tuple[pluggy.HookCaller, pluggy.HookImpl]]:
    callers = manager.get_hookcallers(plugin) or []
    return [(caller, one) for caller in callers for one in caller.get_hookimpls() if one.plugin is plugin]


def _check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    known = [name for name, caller in vars(manager.hook).items() if caller.has_spec()]
    implemented = _implementations(manager, plugin)
    for caller, implementation in implemented:
        if not caller.has_spec() and not implementation.optionalhook:
            raise PluginError(_unknown_hook(caller.name, known))
        if implementation.wrapper or implementation.hookwrapper:
            raise PluginError(f"Hook '{caller.name}' is a wrapper; hooks are implemented, not wrapped.")
    marked = {implementation.function.__name__ for _, implementation in implemented}
    unmarked = [name for name in known if callable(getattr(plugin, name, None)) and name not in marked]
    if unmarked:
        raise PluginError(
            f"{_listed(unmarked)} does nothing without @hookimpl above it (from vertebra import hookimpl)."
        )
    if not implemented:
        raise PluginError("It implements no hook. A hook is a function marked @hookimpl, such as register_tasks.")


def _unknown_hook(name: str, known: Iterable[str]) -> str:
    if name in hook_names(BehaviourHooks):
        return (
            f"Hook '{name}' changes a training step, so it belongs to a class that register_behaviours brings"
            " and that a run names in trainer.behaviours."
        )
    return f"There is no hook '{name}'.{did_you_mean(name, known)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _brought(manager: pluggy.PluginManager, plugin: object, hook: str) -> list[Any]:
    wanted = _wanted(hook)
    everything: list[Any] = []
    for caller, implementation in _implementations(manager, plugin):
        if caller.name != hook:
            continue
        try:
            brought: Any = implementation.function()
        except Exception as error:
            raise PluginError(f"{hook} raised {describe(error)}.") from error
        if brought is not None and not isinstance(brought, list):
            raise PluginError(f"{hook} must return a list of {wanted.__name__} or None, not {type(brought).__name__}.")
        for one in brought or []:
            _check_brought(hook, wanted, one)
        everything.extend(brought or [])
    return everything


def _wanted(hook: str) -> type:
    """Return what a `register_*` hook lists, as its specification says: `list[TaskRef] | None` is TaskRef."""
    listed, _none = get_args(get_type_hints(getattr(RegisterHooks, hook))["return"])
    wanted: type = get_args(listed)[0]
    return wanted


def _check_brought(hook: str, wanted: type, one: object) -> None:
    if not isinstance(one, wanted):
        raise PluginError(f"{hook} must return a list of {wanted.__name__} or None, but {one!r} is in it.")
    if not isinstance(one, Ref):
        return
    if not (isinstance(one.name, str) and one.name):
        raise PluginError(f"{hook} returned a {wanted.__name__} without a name: {one!r}.")
    for target in [one.target] if one.config is None else [one.target, one.config]:
        if not (isinstance(target, str) and TARGET.fullmatch(target)):
            raise PluginError(f"The {one.kind} '{one.name}' is at {target!r}; write 'package.module:attribute'.")


def _check_config_package(package: str) -> None:
    try:
        spec = importlib.util.find_spec(package)
    except Exception as error:
        raise PluginError(f"Config package '{package}' cannot be found: {describe(error)}.") from error
    if spec is None or spec.origin is None:
        raise PluginError(f"Config package '{package}' cannot be found: it must be a package with an __init__.py.")
