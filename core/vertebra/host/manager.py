"""The host: find the installed plugins, take in each one by itself, and look up what they bring."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import pluggy

import vertebra
from vertebra.errors import PluginError
from vertebra.host import defaults
from vertebra.host.hooks import adopt, collect, describe, fire
from vertebra.host.hookspecs import PROJECT, BehaviourHooks, RegisterHooks, RunHooks
from vertebra.host.records import DISABLE, PluginRecord
from vertebra.host.refs import Ref
from vertebra.host.registry import Registry
from vertebra.names import unknown

CORE = "core"
ENTRY_POINTS = "vertebra"


class Host:
    """The plugins of one process and what they bring. `create_host` makes one; there is none at module level."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(RegisterHooks)
        self.manager.add_hookspecs(RunHooks)
        self.plugins: list[PluginRecord] = []
        self.config_packages: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()
        """What the user should know, such as a name in VERTEBRA_DISABLE that no plugin has."""
        self._registry = Registry()
        self._silent = False

    def get(self, kind: str, name: str) -> Ref:
        """Return the reference of that kind and name; `PluginError` says what exists and which plugins are missing."""
        try:
            return self._registry.get(kind, name)
        except PluginError as error:
            absent = [plugin.absence for plugin in self.plugins if plugin.state != "active"]
            if not absent or name in self.names(kind):
                raise
            raise PluginError(f"{error} Not loaded: {'; '.join(absent)}.") from None

    def names(self, kind: str) -> list[str]:
        """Return the registered names of a kind, sorted."""
        return self._registry.names(kind)

    def refs(self, kind: str) -> list[Ref]:
        """Return the references of a kind, sorted by name."""
        return self._registry.refs(kind)

    def notify(self, hook: str, **arguments: Any) -> None:
        """Fire a hook of `RunHooks`; what a plugin raises becomes a `PluginError` that names it."""
        if not self._silent:
            fire(self.manager, hook, arguments)

    def silence(self) -> None:
        """Fire no hooks of `RunHooks` from now on: of several processes of a run, only the main one is heard."""
        self._silent = True

    def add(self, plugin: PluginRecord, load: Callable[[], object]) -> None:
        """Load a plugin, register its hooks and take in what it brings; a failure is recorded and stays its own."""
        try:
            self.plugins.append(self._take_in(plugin, load))
        except (Exception, SystemExit) as error:
            reason = str(error) if isinstance(error, PluginError) else describe(error)
            self.plugins.append(replace(plugin, state="failed", error=reason.removesuffix("."), cause=error))

    def _take_in(self, plugin: PluginRecord, load: Callable[[], object]) -> PluginRecord:
        for other in self.plugins:
            if other.name == plugin.name:
                raise PluginError(f"Its name is that of {other.label}; uninstall one of the two.")
        module = load()
        adopt(self.manager, module, plugin.name)
        try:
            brought = collect(self.manager, module)
            self._registry.add(plugin, brought.refs)
        except Exception:
            self.manager.unregister(name=plugin.name)
            raise
        self.config_packages += brought.config_packages
        return replace(plugin, registers=brought.by_kind())


def create_host() -> Host:
    """Return a fresh host with the core's defaults and every installed plugin that VERTEBRA_DISABLE does not name."""
    host = Host()
    host.add(PluginRecord(CORE, CORE, vertebra.__version__), lambda: defaults)
    if host.plugins[0].state == "failed":
        raise PluginError(f"The core cannot register its own defaults: {host.plugins[0].error}.")
    blocked = _disabled()
    entry_points = _installed()
    for entry_point in entry_points:
        plugin = _record(entry_point)
        if plugin.name in blocked:
            host.plugins.append(replace(plugin, state="blocked"))
        else:
            host.add(plugin, entry_point.load)
    known = {entry_point.name for entry_point in entry_points}
    host.notes = tuple(f"{DISABLE}: {unknown('plugin', name, known)}" for name in blocked if name not in known)
    return host


def create_behaviour_manager(host: Host, names: Sequence[str]) -> pluggy.PluginManager:
    """Return a manager of `BehaviourHooks` with one instance of each named behaviour; they act in the order named."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(BehaviourHooks)
    for name in reversed(names):  # pluggy calls the one that came last first
        if manager.has_plugin(name):
            raise PluginError(f"The behaviour '{name}' is named twice in trainer.behaviours.")
        behaviour = host.get("behaviour", name).load()
        try:
            adopt(manager, behaviour(), name)
        except Exception as error:
            reason = str(error) if isinstance(error, PluginError) else describe(error)
            raise PluginError(f"The behaviour '{name}' cannot be used: {reason}") from error
    return manager


def _disabled() -> list[str]:
    named = (name.strip() for name in os.environ.get(DISABLE, "").split(","))
    return list(dict.fromkeys(name for name in named if name))


def _installed() -> list[metadata.EntryPoint]:
    """Return Vertebra's own entry points, then all others by name: where two clash, the guest is refused."""
    found = metadata.entry_points(group=ENTRY_POINTS)
    return sorted(found, key=lambda one: (_source(one) != PROJECT, one.name, _source(one)))


def _source(entry_point: metadata.EntryPoint) -> str:
    return getattr(entry_point.dist, "name", None) or "unknown"  # None: an installation that was cut short


def _record(entry_point: metadata.EntryPoint) -> PluginRecord:
    version = getattr(entry_point.dist, "version", None) or "unknown"
    return PluginRecord(entry_point.name, _source(entry_point), version)
