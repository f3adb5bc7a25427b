"""Whether a sweep runs, and a run in it gives what the same run gives by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vertebra.cli.sweep import sweep
from vertebra.config.document import to_document
from vertebra.testing.breaches import Breach
from vertebra.testing.case import Case


def check(case: Case) -> Iterator[Breach]:
    """Sweep over two seeds, the one of the short run last."""
    alone = case.short_run
    folder = case.folder / "sweep"
    code = sweep([*overrides(case), "seed=2,1", f"hydra.sweep.dir='{folder}'"], case.host)
    states = [state(folder / name) for name in folders_of(folder)]
    for number, one in enumerate(states):
        if one.get("status") != "finished":
            yield Breach(
                f"task '{case.name}'",
                f"run {number} of a sweep over two seeds is '{one.get('status', 'not started')}': {one.get('reason')}",
                "state that the first run left in the module or on the class",
            )
            return
    if code:
        yield Breach(
            f"task '{case.name}'",
            f"a sweep over two seeds ends with exit code {code}, though its runs have finished",
            "something raises after the last run: `decode`, a metric or a report section that cannot read what the runs left",
        )
        return
    if states[1]["weights"] != state(alone)["weights"]:
        yield Breach(
            f"{case.place('fit')}, {case.place('encode')}",
            "a run of a sweep has other weights than the same run by itself",
            "state of an earlier run: a list or a counter on the class or in the module, which every run of the process shares",
        )


def overrides(case: Case) -> list[str]:
    """Return the short run as a command line says it."""
    config = case.config()
    given = to_document(config)
    choice = given["tasks"][0]
    option = case.data.get("option", f"{case.name}/sample")
    lines = [f"task={case.name}", f"data={option}", "backbone=nano", "gpu=cpu"]
    lines += settings("task", choice["config"] or {})
    lines += settings(
        "data", {"limit": choice["data"]["limit"], **{k: v for k, v in case.data.items() if k != "option"}}
    )
    lines += settings("backbone", {name: given["backbone"][name] for name in ("init", "config", "attention")})
    lines += settings("gpu", {"threads": 1, "precision": "fp32"})
    lines += settings("trainer", given["trainer"])
    return lines


def settings(group: str, values: dict[str, Any]) -> list[str]:
    """Return settings in Hydra's grammar."""
    return [f"++{group}.{name}={spelled(value)}" for name, value in values.items()]


def spelled(value: Any) -> str:
    """Return a value in Hydra's grammar, in which texts are quoted and keys are not."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{spelled(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(spelled, value)) + "]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return json.dumps(value)


def folders_of(sweep: Path) -> list[str]:
    """Return the names of the jobs' folders, in the order of the sweep; one that nothing has for each job of none."""
    file = sweep / "sweep.json"
    if not file.exists():
        return ["-", "-"]
    return [job["folder"] for job in json.loads(file.read_text(encoding="utf-8"))["jobs"]]


def state(folder: Path) -> dict[str, Any]:
    """Return what a run's folder says of it; nothing where there is no run."""
    file = folder / "run.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found
