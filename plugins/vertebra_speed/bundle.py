"""`vertebra speed bundle`: many tasks over one backbone, beside one transformers pipeline for each."""

from __future__ import annotations

from typing import Any

from vertebra_speed.comparison import Bench, Measured, Side, unlike
from vertebra_speed.options import Options
from vertebra_speed.report import Report, make_report

PEER = "vertebra_speed.peers.bundle:Pipelines"
OWN = "vertebra_speed.own.bundle:VertebraTasks"
PREPARE = "vertebra_speed.bundle_work:prepare"
TASKS = 6


def run(options: Options) -> Report:
    """Measure, and return what was found."""
    with Bench(options) as bench:
        ceiling = bench.ceiling()
        work = bench.prepare()
        bench.once(
            "preparing the tasks", PREPARE, folder=bench.folder, tasks=TASKS, rows=options.rows, seed=options.seed
        )
        common = {"folder": bench.folder, "threads": options.threads, "requests": options.requests}
        measured = bench.measure(sides(common, options), "answer", {}, outcome=("answers", {}))
        alone = bench.peak(Side("Vertebra, one task", OWN, {**common, "tasks": 1}, "fp32"), "answer", seed=0)
    apart = unlike(measured, "answers", "labels")
    held = {one.side.name: {"MiB above the imports": _mebibytes(one.memory["above"])} for one in measured}
    held["Vertebra, one task"] = {"MiB above the imports": _mebibytes(alone["above"])}
    found = [one for one in measured if one.side.ours]
    return make_report(
        "bundle",
        options,
        work,
        measured,
        unit="pass",
        ceiling=ceiling,
        operations_a_token=work["operations_a_token"],
        differences={name: {**held.get(name, {}), **apart.get(name, {})} for name in {**held, **apart}},
        notes=notes(options, measured, found, alone),
    )


def sides(common: dict[str, Any], options: Options) -> list[Side]:
    """Return the pipelines as they are used, and as well as their batches allow, and Vertebra's tasks."""
    peers = [Side(f"pipelines, {peer}", PEER, {**common, "best": peer == "best"}, "fp32") for peer in options.peers]
    return [*peers, Side("Vertebra, fp32", OWN, {**common, "tasks": TASKS}, "fp32", ours=True)]


def notes(options: Options, measured: list[Measured], ours: list[Measured], alone: dict[str, int]) -> list[str]:
    """Return what a reader of the figures must know, and the shares of memory."""
    shares = [
        f"{one.side.name} holds {one.memory['above'] / alone['above']:.2f} of what it holds with one task, and "
        f"{one.memory['above'] / other.memory['above']:.2f} of {other.side.name}."
        for one in ours
        for other in measured
        if not other.side.ours
    ]
    chosen = [f"{one.side.name}: batches of {one.outcome['batch']}." for one in measured if "batch" in one.outcome]
    return [
        f"{TASKS} tasks with a LoRA each, labels of words and of texts by turns; {options.rows:,} texts, of the tasks in turn, "
        f"{options.requests} of them at once. A pipeline has a model of its own, with the LoRA merged into its weights.",
        "pipelines, default: each text by its pipeline, in the order in which they come. best: the texts at hand by task, "
        "sorted by length, in the batch size that is fastest of 1, 8 and 32 when it is tried.",
        *chosen,
        *shares,
        "All sides take texts and give labels; memory is what is resident after the last turn.",
        options.about_seconds,
    ]


def _mebibytes(number: int) -> str:
    return f"{number / 2**20:,.0f}"
