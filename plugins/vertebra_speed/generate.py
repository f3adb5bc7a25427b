"""`vertebra speed generate`: answering requests that each have their own stop, beside transformers' `generate`."""

from __future__ import annotations

from vertebra_speed.comparison import Bench, Side, unlike
from vertebra_speed.options import Options, Precision
from vertebra_speed.report import Report, make_report

PEER = "vertebra_speed.peers.generation:GenerationPeer"
OWN = "vertebra_speed.own.generation:VertebraGeneration"
WAYS: dict[str, dict[str, Precision]] = {
    "default": {"padded": "fp32"},
    "best": {"continuous": "fp32", "sorted": "bf16"},
}
"""Of each setting of the peer, what is done and in which precision."""


def run(options: Options) -> Report:
    """Measure, and return what was found."""
    with Bench(options) as bench:
        work = bench.prepare()
        asked = {"requests": options.requests}
        measured = bench.measure(sides(bench.folder, options), "generate", asked, outcome=("tokens", asked))
    return make_report(
        "generate",
        options,
        work,
        measured,
        unit="pass",
        differences=unlike(measured, "tokens", "answers"),
        notes=[
            f"{options.requests} requests, greedy, prompts of 8 to 256 tokens, answers of 8 to 128; tokens/s counts new ones.",
            "padded: generate on all at once, padded on the left. sorted: generate on batches of 8 with like stops, weights "
            "in bf16. continuous: transformers' continuous batching, with a cache as large as the requests need.",
            options.about_seconds,
        ],
    )


def sides(folder: str, options: Options) -> list[Side]:
    """Return the peers that were asked for, and our generator in each precision."""
    common = {"folder": folder, "threads": options.threads, "device": options.device}
    peers = [
        Side(f"transformers, {way}, {precision}", PEER, {**common, "way": way}, precision)
        for peer in options.peers
        for way, precision in WAYS[peer].items()
    ]
    own = [
        Side(f"Vertebra, {precision}", OWN, {**common, "precision": precision}, precision, ours=True)
        for precision in options.precisions
    ]
    return peers + own
