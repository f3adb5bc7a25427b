"""`vertebra speed pretrain`: a language model on running text, beside Hugging Face Trainer as run_clm.py sets it up."""

from __future__ import annotations

from dataclasses import asdict

from vertebra_speed.comparison import Bench, Side
from vertebra_speed.options import Options
from vertebra_speed.report import Report, make_report
from vertebra_speed.train import BACKWARD

PEER = "vertebra_speed.peers.pretrain:PretrainingPeer"
OWN = "vertebra_speed.own.pretrain:VertebraPretraining"


def run(options: Options) -> Report:
    """Measure, and return what was found."""
    with Bench(options) as bench:
        ceiling = bench.ceiling()
        work = bench.once(
            "preparing the work",
            "vertebra_speed.windows:prepare",
            folder=bench.folder,
            layers=options.shape.layers,
            width=options.shape.width,
            family=options.family,
            data=asdict(options.data),
            seed=options.seed,
        )
        common = {"folder": bench.folder, "threads": options.threads, "device": options.device}
        differences = bench.once(
            "comparing the numbers", "vertebra_speed.agreement_of_language_models:compare_pretraining", **common
        )
        peers = [
            Side(f"Trainer, {peer}", PEER, {**common, "peer": peer, "batch_size": options.batch}, precision)
            for peer, precision in options.peer_precisions
        ]
        own = [
            Side(
                f"Vertebra, {precision}",
                OWN,
                {**common, "precision": precision, "batch_size": options.batch},
                precision,
                ours=True,
            )
            for precision in options.precisions
        ]
        turn = {"steps": options.steps, "warmup": options.warmup}
        measured = bench.measure(peers + own, "train", turn)
    return make_report(
        "pretrain",
        options,
        work,
        measured,
        unit="step",
        ceiling=ceiling,
        operations_a_token=BACKWARD * work["operations_a_token"],
        differences=differences,
        notes=[
            f"Trainer, default: as run_clm.py sets it up, fp32, steps of {options.batch} windows of 512 tokens, documents one "
            "behind the other with no border between them. best: bf16, no attention mask, and each step added up from "
            "passes of single windows where there is no GPU, which is its fastest. There is no dropout on any side.",
            "Vertebra keeps attention within each document; where documents are short that is less work.",
            f"{options.about_seconds} The first {options.warmup} steps of each turn do not count.",
            "Differences are relative, from Trainer's fp32: windows of single documents, the same weights.",
        ],
    )
