"""Make nano's weights of a finished run of `experiment=nano`: `python docs/nano.py RUN`, then `make docs`.

The package gets the run's weights in bf16 and a version.json that names them; docs/pretraining/nano.json what is to be known
of the run, docs/images/nano.png its curves. Afterwards `python docs/bits_per_byte.py` measures what is shipped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
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
    "epochs",
    "max_steps",
    "batch_size",
    "optimizer",
    "learning_rate",
    "warmup",
    "schedule",
    "weight_decay",
    "clip",
)
MACHINE = ("vertebra", "python", "torch", "transformers", "platform", "cpu", "cores", "gpu")


def main() -> int:
    """Write the files, and print what the package now holds."""
    parser = argparse.ArgumentParser(prog="python docs/nano.py")
    parser.add_argument("run", help="the folder of the run")
    parser.add_argument("--version", required=True, help="the version of nano that this makes, such as 0.2")
    arguments = parser.parse_args()
    try:
        run = finished(RunFolder.open(arguments.run))
        write_weights(run)
    except VertebraError as error:
        print(f"nano: {error}", file=sys.stderr)
        return 2
    version = {"name": "nano", "version": arguments.version, "weights": sha256(WEIGHTS), "fingerprint": fingerprint()}
    write(NANO / "version.json", version)
    about = description(run)
    write(HERE / "pretraining" / "nano.json", about)
    draw(about, HERE / "images" / "nano.png")
    print(f"nano {version['version']}: {(NANO / WEIGHTS).stat().st_size / 2**20:.1f} MiB, {about['scores']}")
    return 0


def finished(run: RunFolder) -> RunFolder:
    """Return the run; `RunError` where it is not a finished one of language modelling on nano's own shape."""
    state = run.read_state()
    if state.get("status") != "finished" or state.get("tasks") != ["lm"] or state["backbone"]["name"] != "nano":
        raise RunError(f"'{run.path}' is no finished run of task=lm backbone=nano.")
    return run


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


def description(run: RunFolder) -> dict[str, Any]:
    """Return settings, cost, machine, scores and curves of a run."""
    config, cost = run.read_config(), run.read_json("cost.json")
    evaluations = [line for line in read_lines(run, "evaluations.jsonl") if line["split"] == "valid"]
    window = config["tasks"][0]["config"]["window"]
    tokens = window * config["trainer"]["batch_size"]
    log = list(read_lines(run, "log.jsonl"))
    return {
        "settings": {name: config["trainer"][name] for name in SETTINGS} | {"window": window, "seed": config["seed"]},
        "tokens": tokens * evaluations[-1]["step"],
        "steps": evaluations[-1]["step"],
        "processes": config["gpu"]["processes"],
        "threads": config["gpu"]["threads"],
        "cost": cost,
        "machine": {name: run.read_json("environment.json")[name] for name in MACHINE},
        "scores": {split: scores["bits_per_byte"] for split, scores in run.read_json("metrics.json").items()},
        "loss": [[round(tokens * step), round(loss, 4)] for step, loss in zip(*smoothed(log), strict=True)],
        "bits_per_byte": [[tokens * line["step"], round(line["scores"]["bits_per_byte"], 4)] for line in evaluations],
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
