"""Whether a trained run that is loaded in another process predicts what it predicted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vertebra.testing.breaches import Breach
from vertebra.testing.case import Case
from vertebra.testing.elsewhere import digest
from vertebra.testing.likeness import alike, brief


def check(case: Case) -> Iterator[Breach]:
    """Train, load in a new process, and compare predictions."""
    run = case.short_run
    written = [json.loads(line) for line in (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    done = elsewhere(run, case.folder)
    if "error" in done:
        yield Breach(
            f"{case.place('restore')}, {case.place('build_head')}",
            f"the run cannot be used in a new process: {done['error']}",
            "`state` leaves out something that `restore`, `build_head` or `encode` needs, or `build_head` makes layers of "
            "another shape than in training",
        )
        return
    if {done["features"], done["features_again"]} != {digest(case.prepared[0].encoded["train"].features)}:
        yield Breach(
            f"{case.place('fit')}, {case.place('encode')}",
            "a new process encodes the training rows otherwise, by the restored task or by one that is fitted there",
            "an order that comes from a set, or `hash()` of a text, which differ from process to process: sort it; or `state` "
            "and `restore` change what was learnt",
        )
    for line in written:
        loaded = done["predictions"].get(f"{line['split']} {line['id']}")
        if not alike(line["prediction"], loaded, 1e-3):
            yield Breach(
                f"{case.place('build_head')}, {case.place('state')}",
                f"{line['split']} row '{line['id']}' was {brief(line['prediction'])}, and is {brief(loaded)} once the run is "
                "loaded",
                "layers that are no submodules of the head (in a list, on the task, in a closure) are neither trained nor "
                "saved; or `state` leaves out something that `fit` or `calibrate` learnt and `decode` uses",
            )
            return


def elsewhere(run: Path, folder: Path) -> dict[str, Any]:
    """Return what `vertebra.testing.elsewhere` says of a run, in a process whose sets and hashes have another order."""
    done = subprocess.run(
        [sys.executable, "-m", "vertebra.testing.elsewhere", str(run)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2",
            "VERTEBRA_CACHE": str(folder / "other cache"),
        },
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
