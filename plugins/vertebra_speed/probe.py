"""`vertebra speed probe`: linear heads on a frozen backbone, beside a run of Trainer for each of them."""

from __future__ import annotations

from vertebra_speed.comparison import Bench, Side
from vertebra_speed.options import Options
from vertebra_speed.report import Report, make_report
from vertebra_speed.train import PEER

OWN = "vertebra_speed.own.probe:VertebraProbe"
EPOCHS = 3


def run(options: Options) -> Report:
    """Measure, and return what was found."""
    with Bench(options) as bench:
        work = bench.prepare()
        turn = {"steps": options.steps, "warmup": options.warmup, "rows": options.rows, "epochs": EPOCHS}
        measured = bench.measure(sides(bench.folder, options), "probe", turn)
    return make_report(
        "probe",
        options,
        work,
        measured,
        unit="step or turn",
        differences={},
        notes=[
            f"tokens/s counts each token once for each head and each of {EPOCHS} epochs. K heads take K runs of Trainer, so "
            "its figure does not depend on K; it is measured over some steps of one run, with the backbone frozen.",
            f"Vertebra's turn is the whole work on {options.rows:,} rows: hidden states computed once and kept on disk, "
            f"then K heads with learning rates of their own trained for {EPOCHS} epochs.",
            options.about_seconds,
        ],
    )


def sides(folder: str, options: Options) -> list[Side]:
    """Return the peers that were asked for, and our heads in each number and precision."""
    common = {"folder": folder, "threads": options.threads, "device": options.device, "batch_size": options.batch}
    peers = [
        Side(f"Trainer, {peer}", PEER, {**common, "peer": peer, "frozen": True}, precision)
        for peer, precision in options.peer_precisions
    ]
    own = [
        Side(
            f"Vertebra, {precision}, K={heads}",
            OWN,
            {**common, "precision": precision, "heads": heads},
            precision,
            ours=True,
        )
        for precision in options.precisions
        for heads in options.heads
    ]
    return peers + own
