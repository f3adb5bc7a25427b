"""The progress display, driven through the hooks of a run."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest
from rich.console import Console

from vertebra.engine.events import EvaluationEnd, RunEnd, RunStart, StepEnd
from vertebra.host.hookspecs import RunHooks
from vertebra.report.progress import (
    BarProgress,
    LineProgress,
    create_progress,
    describe_evaluation,
    describe_scores,
)

START = RunStart(
    folder=Path("runs/x"),
    key="k",
    tasks=("ner",),
    backbone="nano",
    parameters=11_214_336,
    examples={"train": 14041, "valid": 3250},
    total_steps=100,
    first_step=0,
    notes=(),
)


class Clock:
    """Time that moves only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def step(number: int, loss: float = 1.0) -> StepEnd:
    return StepEnd(number, number / 50, loss, 1e-4, 1.0, tokens=2000, seconds=0.5)


def evaluation(best: bool = True) -> EvaluationEnd:
    return EvaluationEnd(50, 1.0, "valid", {"entity_f1": 0.6291, "precision": 0.7}, 0.25, 2.0, best)


def play(observer: object, *, steps: int = 100, clock: Clock | None = None, fails: bool = False) -> None:
    """Run a whole training through a plugin manager, a second a step."""
    manager = pluggy.PluginManager("vertebra")
    manager.add_hookspecs(RunHooks)
    manager.register(observer)
    manager.check_pending()
    hook: Any = manager.hook
    hook.run_started(config=SimpleNamespace(), run=START)
    for number in range(1, steps + 1):
        if clock:
            clock.now += 1.0
        hook.step_ended(step=step(number))
        if number == 20:
            hook.note_added(note="with less at once")
        if number == 50:
            hook.evaluation_ended(evaluation=evaluation())
    if fails:
        hook.run_failed(error=RuntimeError("broken"))
    else:
        hook.run_ended(run=RunEnd(Path("runs/x"), {}, 125.0))


def test_plain_lines_come_every_ten_seconds_and_at_each_evaluation() -> None:
    stream, clock = io.StringIO(), Clock()
    play(LineProgress(stream, clock=clock), clock=clock)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "training ner on nano (11.2M parameters); rows: 14,041 train, 3,250 valid"
    assert [line.split()[1] for line in lines if line.endswith("left")] == [f"{n}/100" for n in range(10, 101, 10)]
    assert "step 10/100  loss 1.0000  4.0k tokens/s  1 min 30 s left" in lines
    assert "step 50  epoch 1.00  valid  entity_f1 62.91  precision 70.00  loss 0.2500  (best)" in lines
    assert lines.count("note: with less at once") == 1
    assert lines[-1] == "finished in 2 min 05 s"


def test_quick_steps_write_no_line_each() -> None:
    stream = io.StringIO()
    play(LineProgress(stream, clock=Clock()))
    assert len(stream.getvalue().splitlines()) == 4  # start, note, evaluation, end


def test_the_loss_shown_is_smooth() -> None:
    stream, clock = io.StringIO(), Clock()
    display = LineProgress(stream, every=0, clock=clock)
    display.run_started(START)
    for number, loss in enumerate([1.0] * 60 + [100.0], start=1):
        clock.now += 1
        display.step_ended(step(number, loss))
    shown = float(stream.getvalue().splitlines()[-1].split("loss ")[1].split()[0])
    assert 1 < shown < 10


def test_the_time_left_of_a_resumed_run_counts_only_its_own_steps() -> None:
    stream, clock = io.StringIO(), Clock()
    display = LineProgress(stream, clock=clock)
    display.run_started(RunStart(**{**vars(START), "first_step": 80}))
    clock.now = 10
    display.step_ended(step(90))
    assert stream.getvalue().splitlines()[-1].endswith("10 s left")


@pytest.mark.parametrize("fails", [False, True])
def test_a_terminal_shows_a_bar_with_the_last_score(fails: bool) -> None:
    stream = Terminal()
    play(BarProgress(Console(file=stream, force_terminal=True, width=120)), fails=fails)
    text = stream.getvalue()
    assert "100/100" in text
    assert "4.0k tokens/s" in text
    assert text.count("valid  entity_f1 62.91  precision 70.00") == 1  # the line above the bar
    assert text.count("note: with less at once") == 1
    assert "\x1b[?25h" in text  # the cursor is back


def test_a_run_that_fails_before_its_start_leaves_the_terminal_as_it_was() -> None:
    stream = Terminal()
    BarProgress(Console(file=stream, force_terminal=True)).run_failed()
    assert stream.getvalue().strip() == ""


def test_the_stream_decides(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(create_progress(Terminal()), BarProgress)
    assert isinstance(create_progress(io.StringIO()), LineProgress)
    play(create_progress())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "training ner" in captured.err


def test_of_several_tasks_it_shows_the_mean_and_the_first_score_of_each() -> None:
    ner = evaluation(best=False)
    other = EvaluationEnd(50, 1.0, "valid", {"accuracy": 0.5, "mcc": 0.1}, 0.75, 2.0, best=False)
    scores = {"mean_score": 0.56455, "ner.entity_f1": 0.6291, "ner.precision": 0.7, "x.accuracy": 0.5, "x.mcc": 0.1}
    together = EvaluationEnd(50, 1.0, "valid", scores, 0.5, 4.0, best=True, tasks={"ner": ner, "x": other})
    assert describe_evaluation(together) == (
        "step 50  epoch 1.00  valid  mean_score 56.45  ner.entity_f1 62.91  x.accuracy 50.00  loss 0.5000  (best)"
    )
    assert describe_scores(together, at_most=1) == "valid  mean_score 56.45"
