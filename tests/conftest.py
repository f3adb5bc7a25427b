"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from plugin_site import PluginSite

# A loaded machine must not fail a property for being slow.
settings.register_profile("vertebra", deadline=None)
settings.load_profile("vertebra")

# Nothing may wait for a network, and two threads suffer from any third process.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep encoded features of tests out of the user's cache."""
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginSite]:
    """A folder of third-party plugins, where nothing is installed yet."""
    monkeypatch.delenv("VERTEBRA_DISABLE", raising=False)
    site = PluginSite(tmp_path / "site", monkeypatch)
    yield site
    site.forget()


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command, which must end with exit code 2 and one message; return that."""

    from vertebra.cli.main import main

    def check(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vertebra: ")]
        return line

    return check
