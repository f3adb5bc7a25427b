"""A folder of installed third-party plugins, as pip would leave it: modules beside their `.dist-info`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from vertebra.host.manager import Host
from vertebra.host.records import PluginRecord

GOOD = """
from vertebra import MetricRef, hookimpl

@hookimpl
def register_metrics():
    return [MetricRef("good_metric", "good.metric:Good")]
"""


def record(host: Host, name: str) -> PluginRecord:
    [found] = [plugin for plugin in host.plugins if plugin.name == name]
    return found


class PluginSite:
    """A site folder on the path of this process, and of those that are started with `environment()`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        folder.mkdir()

    def install(
        self,
        distribution: str,
        source: str,
        *,
        plugins: Mapping[str, str] | None = None,
        modules: Mapping[str, str] | None = None,
        version: str = "1.0",
    ) -> None:
        """Install a distribution whose module of the same name holds `source`, by default as the plugin of that name.

        `plugins` are entry points (name: value), `modules` further files.
        """
        module = distribution.replace("-", "_")
        files = {f"{module}/__init__.py": source, **(modules or {})}
        for path, text in files.items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(text), encoding="utf-8")
        info = self.folder / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        entry_points = plugins if plugins is not None else {distribution: module}
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[vertebra]", *lines, ""]))
        self._monkeypatch.syspath_prepend(str(self.folder))  # also drops what importlib remembers of the folder

    def install_package(self, package: Path, plugin: str) -> None:
        """Install a package that is on disk as a plugin, as an editable installation does: it stays where it is."""
        info = self.folder / f"{package.name}-1.0.dist-info"
        info.mkdir()
        distribution = package.name.replace("_", "-")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[vertebra]\n{plugin} = {package.name}\n")
        (self.folder / package.name).symlink_to(package)
        self._monkeypatch.syspath_prepend(str(self.folder))

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the environment for a process that sees these plugins."""
        paths = [str(self.folder), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "120", **variables}

    def forget(self) -> None:
        """Take the plugins' modules out of this process."""
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(str(self.folder)):
                del sys.modules[name]
