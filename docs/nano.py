"""Make nano's weights of finished runs of `experiment=nano`: `python docs/nano.py RUN …`, then `make docs`.

Each run but the first went on with the weights of the one before. The package gets those of the last in bf16, and a
version.json that names them; docs/pretraining/nano.json what is to be known of the runs, docs/images/nano.png their curves.
Afterwards `python docs/bits_per_byte.py` measures what is shipped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file, save_file

from vertebra.errors import RunError, VertebraError
from vertebra.report.average import Average
from vertebra.report.curves import thinned
from vertebra.report.read import read_lines
from vertebra.runs.folder import RunFolder

HERE = Path(__file__).resolve().parent
NANO = HERE.parent / "core" / "vertebra" / "nano"
WEIGHTS = "model.safetensors"
SETTINGS = (
    "batch_size",
    "optimizer",
    "learning_rate",
    "warmup",
    "schedule",
    "weight_decay",
    "clip",
)
OF_TASK = ("window", "both_ways", "masked")
COSTS = ("wall_seconds", "cpu_seconds")
MACHINE = ("vertebra", "python", "torch", "transformers", "platform", "cpu", "cores", "gpu")


def main() -> int:
    """Write the files, and print what the package now holds."""
    parser = argparse.ArgumentParser(prog="python docs/nano.py")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the folders of the runs, in their order")
    parser.add_argument("--version", required=True, help="the version of nano that this makes, such as 0.2")
    arguments = parser.parse_args()
    try:
        runs = finished([RunFolder.open(run) for run in arguments.runs])
        write_weights(runs[-1])
    except VertebraError as error:
        print(f"nano: {error}", file=sys.stderr)
        return 2
    version = {"name": "nano", "version": arguments.version, "weights": sha256(WEIGHTS), "fingerprint": fingerprint()}
    write(NANO / "version.json", version)
    about = description(runs)
    write(HERE / "pretraining" / "nano.json", about)
    draw(about, HERE / "images" / "nano.png")
    print(f"nano {version['version']}: {(NANO / WEIGHTS).stat().st_size / 2**20:.1f} MiB, {about['scores']}")
    return 0


def finished(runs: list[RunFolder]) -> list[RunFolder]:
    """Return the runs; `RunError` where one is no finished one of language modelling, or did not go on with the one before."""
    before = None
    for run in runs:
        state, backbone = run.read_state(), run.read_config()["backbone"]
        if state.get("status") != "finished" or state.get("tasks") != ["lm"]:
            raise RunError(f"'{run.path}' is no finished run of task=lm.")
        goes_on = before is not None and backbone["path"] and Path(backbone["path"]) == before.model / "backbone"
        if not (goes_on or (before is None and backbone["name"] == "nano")):
            raise RunError(f"'{run.path}' did not begin with {f'the weights of {before.path}' if before else 'nano'}.")
        before = run
    return runs


def write_weights(run: RunFolder) -> None:
    """Write the run's weights in bf16."""
    found = load_file(str(run.model / "backbone" / WEIGHTS))
    halved = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in sorted(found.items())}
    save_file(halved, str(NANO / WEIGHTS), metadata={"format": "pt"})
    (NANO / WEIGHTS).chmod(0o644)  # the wheel keeps it, and is not for one user alone


def fingerprint() -> str:
    """Return the hash of what makes a model saved with another version meaningless."""
    return hashlib.sha256(
        b"".join((NANO / name).read_bytes() for name in ("config.json", "tokenizer.json"))
    ).hexdigest()


def sha256(name: str) -> str:
    """Return a file's hash."""
    return hashlib.sha256((NANO / name).read_bytes()).hexdigest()


def description(runs: list[RunFolder]) -> dict[str, Any]:
    """Return settings, cost, machine, scores and curves of runs, one behind the other."""
    first = runs[0].read_config()
    settings = {name: first["trainer"][name] for name in SETTINGS}
    of_task = {name: first["tasks"][0]["config"][name] for name in OF_TASK}
    tokens = of_task["window"] * settings["batch_size"]
    costs = [run.read_json("cost.json") for run in runs]
    steps, losses, bits = [0], [], []
    for run in runs:
        evaluations = [line for line in read_lines(run, "evaluations.jsonl") if line["split"] == "valid"]
        done = tokens * steps[-1]
        log = list(read_lines(run, "log.jsonl"))
        losses += [[done + round(tokens * step), round(loss, 4)] for step, loss in zip(*smoothed(log), strict=True)]
        bits += [[done + tokens * one["step"], round(one["scores"]["bits_per_byte"], 4)] for one in evaluations]
        steps.append(steps[-1] + evaluations[-1]["step"])
    return {
        "settings": settings | of_task | {"seeds": [run.read_config()["seed"] for run in runs]},
        "tokens": tokens * steps[-1],
        "steps": [after - before for before, after in pairwise(steps)],
        "processes": first["gpu"]["processes"],
        "cost": {name: sum(cost[name] for cost in costs) for name in COSTS},
        "machine": {name: runs[0].read_json("environment.json")[name] for name in MACHINE},
        "scores": {split: scores["bits_per_byte"] for split, scores in runs[-1].read_json("metrics.json").items()},
        "loss": losses,
        "bits_per_byte": bits,
    }


def smoothed(log: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Return steps and training losses, averaged, few enough for a page."""
    steps, losses = thinned([(float(line["step"]), float(line["loss"])) for line in log], 120)
    average = Average(0.6)
    return steps, [average.add(loss) for loss in losses]


def draw(about: dict[str, Any], file: Path) -> None:
    """Write the curves: training loss above, bits per byte of the held-out articles below, over the tokens read."""
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for axes, name, label in ((above, "loss", "training loss, nats a token"), (below, "bits_per_byte", "bits a byte")):
        axes.plot([x / 1e6 for x, _ in about[name]], [y for _, y in about[name]], color="#2a78d6", linewidth=1.8)
        axes.set_ylabel(label)
        axes.grid(axis="y", color="#dddddd")
        axes.spines[["top", "right"]].set_visible(False)
    below.lines[0].set_marker("o")
    below.set_xlabel("tokens read, millions")
    figure.savefig(file, dpi=150, metadata={"Software": None})


def write(file: Path, document: dict[str, Any]) -> None:
    """Write JSON."""
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
