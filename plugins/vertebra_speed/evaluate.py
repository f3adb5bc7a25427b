"""`vertebra speed evaluate`: predicting a split, beside `Trainer.predict`."""

from __future__ import annotations

from typing import Any

from vertebra_speed.comparison import Bench, Side, unlike
from vertebra_speed.options import Options
from vertebra_speed.report import Report, make_report

PEER = "vertebra_speed.peers.evaluation:EvaluationPeer"
OWN = "vertebra_speed.own.evaluation:VertebraEvaluation"
BATCHES = {"default": (8, 32), "best": (32,)}
"""Rows of a batch: Trainer's own default, and that of training."""
MULTIPLES = (1, 4, 16)
"""Of the data, to see whether memory grows with it."""


def run(options: Options) -> Report:
    """Measure, and return what was found."""
    with Bench(options) as bench:
        ceiling = bench.ceiling()
        work = bench.prepare()
        every = sides(bench.folder, options)
        rows = {"rows": options.rows}
        measured = bench.measure(every, "evaluate", rows, outcome=("labels", rows))
        grown = memory(bench, every, options.rows) if options.memory else {}
    report = make_report(
        "evaluate",
        options,
        work,
        measured,
        unit="pass",
        ceiling=ceiling,
        operations_a_token=work["operations_a_token"],
        differences=unlike(measured, "labels", "labels"),
        notes=notes(options),
    )
    return report | {"memory": grown}


def sides(folder: str, options: Options) -> list[Side]:
    """Return the peers that were asked for, and our evaluation in each precision."""
    common = {"folder": folder, "threads": options.threads, "device": options.device}
    peers = [
        Side(f"Trainer, {peer}, batch {size}", PEER, {**common, "peer": peer, "batch_size": size}, precision)
        for peer, precision in options.peer_precisions
        for size in BATCHES[peer]
    ]
    own = [
        Side(f"Vertebra, {precision}", OWN, {**common, "precision": precision}, precision, ours=True)
        for precision in options.precisions
    ]
    return peers + own


def memory(bench: Bench, every: list[Side], rows: int) -> dict[str, dict[str, Any]]:
    """Return the peak memory of each side for the data, and for its multiples, each in a fresh process."""
    return {
        side.name: {str(rows * times): bench.peak(side, "evaluate", rows=rows * times, seed=0) for times in MULTIPLES}
        for side in every
    }


def notes(options: Options) -> list[str]:
    """Return what a reader of the figures must know."""
    script, padding = ("run_glue.py", "to 128") if options.data.kind == "text" else ("run_ner.py", "to the longest row")
    return [
        f"Trainer, default: `predict` as {script} calls it, fp32, rows in their order, padded {padding}. best: rows sorted "
        "by length, padded to the longest of their batch, no attention mask, weights in bf16 (bf16_full_eval).",
        "Vertebra's seconds include decoding to labels, Trainer's do not.",
        options.about_seconds,
    ]
