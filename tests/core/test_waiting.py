"""Threads give way to other processes, unless somebody has said how they wait."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SAY = "import vertebra, os; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "1000 None"),
        ({"GOMP_SPINCOUNT": "7"}, "7 None"),
        ({"OMP_WAIT_POLICY": "active"}, "None active"),
    ],
)
def test_what_somebody_set_stays(given: dict[str, str], found: str) -> None:
    others = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", SAY], env=others | given, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found


def test_it_comes_before_torch() -> None:
    order = "import vertebra, sys; assert 'torch' not in sys.modules; import vertebra.engine.devices"
    subprocess.run([sys.executable, "-c", order], check=True)
