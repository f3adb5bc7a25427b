"""Make what docs/results.md shows: `python docs/results.py [NAME ...] [--seeds 1,2,3] [--data FOLDER]`, then `make docs`.

Each run is a command that anybody can give, in a folder of its own, runs/results/NAME/seed-N: one that is finished there is
left as it is, one that was stopped goes on. What came out is collected in docs/results/NAME.json. It shows one system, task by
task, each with its command; systems are compared by `vertebra benchmark`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments import EXPERIMENTS

from vertebra.cli.main import main as vertebra
from vertebra.errors import VertebraError
from vertebra.host.manager import create_host
from vertebra.report.read import read_baselines
from vertebra.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(__file__).resolve().parent / "results"
DATA = ROOT.parent / "shared" / "data"
OF_BACKBONE = ("name", "version", "parameters", "init", "attention")
KEPT = ("vertebra", "torch", "transformers", "python", "platform", "cpu", "cores", "memory_gib", "gpu", "git_commit")


@dataclass
class Collected:
    """What an experiment's JSON file holds."""

    title: str
    budget: str
    line: str
    study: str = ""
    data: str = ""
    """The fingerprint of the data."""
    metric: str = ""
    """The task's first metric."""
    higher_is_better: bool = True
    baselines: dict[str, Any] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    """For each seed: scores, intervals, seconds, date, notes, backbone, environment."""


def main(argv: Sequence[str]) -> int:
    """Run the named experiments, or all of them; return the exit code of the first run that fails."""
    parser = argparse.ArgumentParser(prog="python docs/results.py", description="Make what docs/results.md shows.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"by default all: {', '.join(EXPERIMENTS)}")
    parser.add_argument("--seeds", type=seeds, help="as 1,2,3; by default each experiment's own")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the data sets (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "results", help="default: %(default)s")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"there is no experiment {', '.join(unknown)}; there are {', '.join(EXPERIMENTS)}")
    for name in arguments.names or EXPERIMENTS:
        after, again = EXPERIMENTS[name].after, EXPERIMENTS[name].again
        paths = [arguments.data / path for one in filter(None, (after, name)) if (path := EXPERIMENTS[one].path)]
        if missing := [path for path in paths if not path.exists()]:
            print(f"{name}: skipped, for there is no '{missing[0]}'.", file=sys.stderr)
            continue
        of_seeds = arguments.seeds or EXPERIMENTS[name].seeds
        first = [(after, 1)] if after else [(again, seed) for seed in of_seeds if again]
        for one, seed in [*first, *((name, seed) for seed in of_seeds)]:
            if code := run(one, seed, arguments.data, arguments.runs):
                return code
        collect(name, arguments.runs)
    return 0


def seeds(text: str) -> tuple[int, ...]:
    """Read `1,2,3`."""
    return tuple(int(one) for one in text.split(","))


def run(name: str, seed: int, data: Path, runs: Path) -> int:
    """Make one run, or go on with it, or leave it as it is where it is finished; return the exit code."""
    folder = runs / name / f"seed-{seed}"
    again = bool(EXPERIMENTS[name].again)
    arguments = EXPERIMENTS[name].arguments(str(data), str(runs), str(seed))
    arguments += [] if again else [f"seed={seed}"]
    made_by = folder / "command.txt"
    if (folder / ("environment.json" if again else "run.json")).exists():  # what is written last, and first
        before = made_by.read_text(encoding="utf-8") if made_by.exists() else "another program"
        if before != shlex.join(arguments):
            print(f"'{folder}' was made by: {before}. Remove it to run: {shlex.join(arguments)}", file=sys.stderr)
            return 2
        if again or RunFolder(folder).read_state()["status"] == "finished":
            return 0
        return vertebra(["resume", str(folder)])
    folder.mkdir(parents=True, exist_ok=True)
    made_by.write_text(shlex.join(arguments), encoding="utf-8")
    return vertebra([*arguments, f"--output={folder}" if again else f"hydra.run.dir={folder}"])


def collect(name: str, runs: Path) -> None:
    """Write docs/results/NAME.json from the finished runs of an experiment."""
    experiment = EXPERIMENTS[name]
    line = shlex.join(["vertebra", *experiment.arguments("FOLDER", "RUNS")])
    found = Collected(experiment.title, experiment.budget, line, experiment.study)
    host = create_host()
    for seed, one in finished(runs / (experiment.again or name)):
        scored = RunFolder(runs / name / f"seed-{seed}") if experiment.again else one
        if not (scored.path / "environment.json").exists():
            continue
        state, environment = one.read_state(), scored.read_json("environment.json")
        found.data = one.read_json("data.json")["fingerprint"]
        found.metric = next(name for scores in scored.read_json("metrics.json").values() for name in scores)
        found.higher_is_better = bool(host.get("metric", found.metric).load().higher_is_better)
        found.baselines = read_baselines(scored) or found.baselines
        found.runs.append(
            {
                "seed": seed,
                "date": state["created"][:10],
                "seconds": state["seconds"],
                "key": state["key"],
                "backbone": {part: state["backbone"].get(part) for part in OF_BACKBONE},
                "adapter": {part: state["adapter"][part] for part in ("name", "backbone", "trained")},
                "notes": state["notes"],
                "scores": scored.read_json("metrics.json"),
                "intervals": scored.read_json("intervals.json"),
                "environment": {part: environment[part] for part in KEPT if part in environment},
            }
        )
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(rounded(found.__dict__), indent=1, ensure_ascii=False)
    (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def finished(folder: Path) -> Iterator[tuple[int, RunFolder]]:
    """Yield the finished runs of an experiment with their seeds, in the order of the seeds."""
    for path in sorted(folder.glob("seed-*"), key=lambda path: int(path.name.removeprefix("seed-"))):
        one = RunFolder(path)
        if (path / "run.json").exists() and one.read_state()["status"] == "finished":
            yield int(path.name.removeprefix("seed-")), one


def rounded(value: Any) -> Any:
    """Return plain data with at most five digits behind the point, so that the files are compact."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except VertebraError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
