"""`vertebra speed train`: fine-tuning, beside Hugging Face Trainer."""

from __future__ import annotations

from vertebra_speed.comparison import Bench, Side
from vertebra_speed.options import Options
from vertebra_speed.report import Report, make_report

BACKWARD = 3
"""Operations of a training step as a multiple of those of a forward pass."""


def run(options: Options) -> Report:
    """Measure, and return what was found."""
    with Bench(options) as bench:
        work = bench.prepare()
        ceiling = bench.ceiling()
        differences = bench.once(
            "comparing the numbers",
            "vertebra_speed.agreement:compare_training",
            folder=bench.folder,
            family=options.family,
            threads=options.threads,
            device=options.device,
            batch_size=options.batch,
        )
        measured = bench.measure(sides(bench.folder, options), "train", steps=options.steps, warmup=options.warmup)
    return make_report(
        "train",
        options,
        work,
        measured,
        ceiling=ceiling,
        operations_a_token=BACKWARD * work["operations_a_token"],
        differences=differences,
        notes=notes(options),
    )


def sides(folder: str, options: Options) -> list[Side]:
    """Return the peers that were asked for, and our trainer in each precision."""
    common = {"folder": folder, "threads": options.threads, "device": options.device, "batch_size": options.batch}
    peers = [
        Side(
            f"Trainer, {peer}",
            "vertebra_speed.peers.trainer:TrainerPeer",
            {**common, "peer": peer},
            "bf16" if peer == "best" else "fp32",
        )
        for peer in options.peers
    ]
    own = [
        Side(
            f"Vertebra, {precision}",
            "vertebra_speed.own.train:VertebraTraining",
            {**common, "precision": precision},
            precision,
            ours=True,
        )
        for precision in options.precisions
    ]
    return peers + own


def notes(options: Options) -> list[str]:
    """Return what a reader of the figures must know."""
    script, padding = (
        ("run_glue.py", "to 128 tokens") if options.data.kind == "text" else ("run_ner.py", "to the longest row")
    )
    seconds = "the processor's, over one thread" if options.threads == 1 and options.device == "cpu" else "by the clock"
    return [
        f"Trainer, default: as {script} sets it up, fp32, rows padded {padding}. best: bf16, batches of like lengths, "
        "padded to their longest row, no attention mask. Dropout is on, on all sides.",
        f"Seconds are {seconds}; padding counts as no token. Each side has a process of its own, and they take turns. "
        f"The first {options.warmup} steps of each turn do not count.",
        "Share of ceiling: operations of the real tokens against a large matrix product in the same precision.",
        "Differences are from Trainer's fp32: one batch, the same weights, no dropout.",
    ]
