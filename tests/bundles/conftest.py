"""Runs and bundles that the tests of bundles share; they are read, and a test that tampers with one takes a copy."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_bundles import make_bundles, make_runs

from saved_backbone import make_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("models") / "shared")


@pytest.fixture(scope="session")
def runs(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_runs(base, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def bundles(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_bundles(runs, tmp_path_factory.mktemp("bundles"))
