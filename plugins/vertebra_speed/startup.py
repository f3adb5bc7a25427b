"""`vertebra speed startup`: how long a program takes before it does anything."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import asdict
from datetime import date

from vertebra.errors import RunError
from vertebra_speed.measure import Spread
from vertebra_speed.options import Options
from vertebra_speed.report import Report
from vertebra_speed.worker import run_once

PYTHON = sys.executable
PROGRAMS = {
    "vertebra --help": [PYTHON, "-m", "vertebra", "--help"],
    "vertebra plugins": [PYTHON, "-m", "vertebra", "plugins"],
    "import vertebra": [PYTHON, "-c", "import vertebra"],
    "from transformers import Trainer": [PYTHON, "-c", "from transformers import Trainer"],
    "python, doing nothing": [PYTHON, "-c", ""],
}


def run(options: Options) -> Report:
    """Measure, and return what was found."""
    environment = run_once("vertebra.runs.environment:describe_environment", {}, threads=1)
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(options.repeats):
        for name, program in PROGRAMS.items():
            seconds[name].append(timed(program))
    return {
        "command": "startup",
        "date": date.today().isoformat(),
        "environment": environment,
        "options": {"repeats": options.repeats},
        "work": {},
        "seconds": {name: asdict(Spread.of(found)) for name, found in seconds.items()},
        "notes": [f"Whole processes, by the clock, {options.repeats} turns; files were already in the system's cache."],
    }


def timed(program: list[str]) -> float:
    """Return the seconds that a program takes from its start to its end."""
    start = time.perf_counter()
    done = subprocess.run(program, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RunError(f"speed: `{' '.join(program[1:])}` failed: {done.stderr.strip().splitlines()[-1]}")
    return seconds
