"""Shares are written in percent, other scores as they are: on the screen, in the report and while a run goes on."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from vertebra.engine.events import EvaluationEnd
from vertebra.host.manager import create_host
from vertebra.report.curves import score_curve
from vertebra.report.progress import describe_evaluation
from vertebra.report.scale import Scale
from vertebra.report.screen import print_scores

SCALE = Scale(frozenset({"bits_per_byte"}))
SCORES = {"bits_per_byte": 2.1037, "token_hits": 0.3391}


def test_a_metric_says_at_registration_that_it_is_no_share() -> None:
    scale = Scale.of(create_host())
    assert not scale.is_share("bits_per_byte") and not scale.is_share("mean_absolute_error")
    assert not scale.is_share("sentiment.mean_absolute_error") and scale.is_share("ner.entity_f1")
    assert scale.is_share("entity_f1") and scale.is_share("a metric that nobody registered")


def test_the_table_marks_what_is_not_in_percent(tmp_path: Path) -> None:
    stream = io.StringIO()
    intervals = {"test": {"bits_per_byte": [2.081, 2.126], "token_hits": [0.331, 0.347]}}
    print_scores({"test": SCORES}, intervals, (), tmp_path, Console(file=stream, width=100), scale=SCALE)
    lines = [" ".join(line.split()) for line in stream.getvalue().splitlines()]
    assert "bits_per_byte * 2.104 2.08–2.13" in lines
    assert "token_hits 33.91 33.1–34.7" in lines and "* not in percent" in lines


def test_progress_and_curves_follow() -> None:
    ended = EvaluationEnd(step=3, epoch=1.0, split="valid", scores=SCORES, loss=5.0, seconds=1.0, best=True)
    assert "bits_per_byte 2.104  token_hits 33.91" in describe_evaluation(ended, SCALE)
    lines = [{"step": step, "split": "valid", "scores": SCORES, "loss": 1.0, "best": True} for step in (1, 2)]
    assert "best 2.104" in score_curve(lines, "bits_per_byte", SCALE)
    assert "token_hits" not in score_curve(lines, "bits_per_byte", SCALE)  # another unit has no place on this axis
    assert "best 33.91" in score_curve(lines, "token_hits", SCALE)
