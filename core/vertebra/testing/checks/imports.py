"""Whether finding the plugin, and composing a run of it, import anything heavy: in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

from vertebra.testing.breaches import Breach, short
from vertebra.testing.case import Case

HEAVY = ("torch", "transformers", "datasets", "accelerate", "sklearn", "scipy", "pandas", "matplotlib", "numpy")

# The first import of each heavy package, with the line of the plugin that asked for it.
WATCH = """
import importlib, json, sys, traceback
modules, heavy = json.loads(sys.argv[1])
found = {}

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in heavy and name not in found:
            frames = [one for one in traceback.extract_stack() if "importlib" not in one.filename]
            found[name] = [frames[-2].filename, frames[-2].lineno]
        return None

sys.meta_path.insert(0, Watch())
for module in modules:
    importlib.import_module(module)
print(json.dumps(found))
"""


def check(case: Case) -> Iterator[Breach]:
    """Import the module of the entry point and that of the config, and see what they bring."""
    config = case.ref.config
    modules = [case.entry_module, *([config.partition(":")[0]] if config else [])]
    done = subprocess.run(
        [sys.executable, "-c", WATCH, json.dumps([modules, HEAVY])],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        yield Breach(
            ", ".join(modules),
            f"a fresh process cannot import them: {done.stderr.strip().splitlines()[-1]}",
            "the module needs what only this process has imported or set",
        )
        return
    by_place: dict[str, list[str]] = {}
    for name, (file, line) in json.loads(done.stdout).items():
        by_place.setdefault(f"{short(file)}:{line}", []).append(name)
    # What one heavy package imports in turn is no mistake of the plugin.
    for where, names in list(by_place.items())[:1]:
        yield Breach(
            where,
            f"`vertebra plugins` and every other command would import {', '.join(names)} for this plugin",
            "an import at the top of the entry point's module or of the config's, or of one that they import: register by "
            "reference (TaskRef('name', 'package.task:Task')) and import heavy packages where they are used",
        )
