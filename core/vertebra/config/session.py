"""Hydra with the options of one host, and without a trace in Hydra's global state afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from hydra import initialize_config_module, version
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from vertebra.config.defaults import core_defaults
from vertebra.config.options import find_options, sample_of, task_node
from vertebra.errors import PluginError
from vertebra.host.manager import Host

PRIMARY = "config"
"""The primary config, in the core's own package of options."""


class PluginOptions(SearchPathPlugin):
    """Puts the option packages of the session's host on Hydra's search path."""

    packages: ClassVar[tuple[str, ...]] = ()

    def manipulate_search_path(self, search_path: Any) -> None:
        """Append the packages, behind the core's own."""
        for package in self.packages:
            search_path.append("vertebra", f"pkg://{package}")


@contextmanager
def hydra_session(host: Host) -> Iterator[Any]:
    """Yield a `Hydra` that knows the host's tasks and options; nothing of it is left when the block ends.

    `PluginError` when two plugins define the same option.
    """
    core, *packages = host.config_packages
    nodes = _nodes(host)
    store, global_hydra, base = ConfigStore.instance(), GlobalHydra.instance(), version.VersionBase.instance()
    before = store.repo, global_hydra.hydra, base.version_base
    Plugins.instance().register(PluginOptions)
    PluginOptions.packages = tuple(packages)
    store.repo = {**store.repo, "task": {}}
    global_hydra.clear()
    try:
        for (group, name), node in nodes.items():
            store.store(group=group, name=name, node=node, provider="vertebra")
        with initialize_config_module(core, job_name="vertebra", version_base="1.3"):
            yield GlobalHydra.instance().hydra
    finally:
        PluginOptions.packages = ()
        GlobalHydra.instance().hydra = before[1]
        store.repo, _, base.version_base = before


def _nodes(host: Host) -> dict[tuple[str | None, str], dict[str, Any]]:
    """Return what stands in no file: the defaults of every group, and for each task a node, which brings its data."""
    options = find_options(host)
    if "task" in options:
        names = ", ".join(f"'{option.package}'" for option in options["task"].values())
        raise PluginError(f"The group task takes no option files ({names}): a task's settings are its dataclass.")
    nodes: dict[tuple[str | None, str], dict[str, Any]] = {(None, "core"): {"task": {}, **core_defaults()}}
    for task in host.names("task"):
        defaults = [{"/data@_global_.data": sample_of(task, options)}, "_self_"]
        nodes["task", task] = {"defaults": defaults, **task_node(task, host)}
    return nodes
