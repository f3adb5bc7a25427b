"""`vertebra speed train`: fine-tuning, beside Hugging Face Trainer."""

from __future__ import annotations

from vertebra_speed.comparison import Bench, Side
from vertebra_speed.options import Options
from vertebra_speed.report import Report, make_report

PEER = "vertebra_speed.peers.trainer:TrainerPeer"
OWN = "vertebra_speed.own.train:VertebraTraining"
BACKWARD = 3
"""Operations of a training step as a multiple of those of a forward pass."""


def run(options: Options) -> Report:
    """Measure, and return what was found."""
    with Bench(options) as bench:
        ceiling = bench.ceiling()
        work = bench.prepare()
        differences = bench.once(
            "comparing the numbers",
            "vertebra_speed.agreement:compare_training",
            folder=bench.folder,
            family=options.family,
            threads=options.threads,
            device=options.device,
            batch_size=options.batch,
        )
        turn = {"steps": options.steps, "warmup": options.warmup}
        measured = bench.measure(sides(bench.folder, options), "train", turn)
    return make_report(
        "train",
        options,
        work,
        measured,
        unit="step",
        ceiling=ceiling,
        operations_a_token=BACKWARD * work["operations_a_token"],
        differences=differences,
        notes=notes(options),
    )


def sides(folder: str, options: Options) -> list[Side]:
    """Return the peers that were asked for, and our trainer in each precision."""
    common = {"folder": folder, "threads": options.threads, "device": options.device, "batch_size": options.batch}
    peers = [
        Side(f"Trainer, {peer}", PEER, {**common, "peer": peer}, precision)
        for peer, precision in options.peer_precisions
    ]
    own = [
        Side(f"Vertebra, {precision}", OWN, {**common, "precision": precision}, precision, ours=True)
        for precision in options.precisions
    ]
    return peers + own


def notes(options: Options) -> list[str]:
    """Return what a reader of the figures must know."""
    script, padding = ("run_glue.py", "to 128") if options.data.kind == "text" else ("run_ner.py", "to the longest row")
    return [
        f"Trainer, default: as {script} sets it up, fp32, batches of {options.batch} padded {padding}. best: bf16, batches of "
        "like lengths, padded to their longest row, no attention mask. Dropout is on, on all sides.",
        f"{options.about_seconds} The first {options.warmup} steps of each turn do not count.",
        "Differences are relative, from Trainer's fp32: one batch, the same weights, no dropout.",
    ]
