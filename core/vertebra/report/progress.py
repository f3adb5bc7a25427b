"""The progress of a run on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from vertebra.engine.events import EvaluationEnd, RunEnd, RunStart, StepEnd
from vertebra.host.hookspecs import hookimpl
from vertebra.report.average import Average
from vertebra.report.numbers import count, duration, magnitude
from vertebra.report.parameters import describe_trained
from vertebra.report.scale import Scale

PERCENT = Scale()


def create_progress(stream: TextIO | None = None, scale: Scale | None = None) -> BarProgress | LineProgress:
    """Return the observer that suits `stream` (standard error by default): a bar on a terminal, else plain lines."""
    stream = stream or sys.stderr
    console = Console(file=stream, highlight=False)
    scale = scale or Scale()
    return BarProgress(console, scale) if console.is_terminal else LineProgress(stream, scale)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say what takes a while: on a terminal for as long as it lasts, elsewhere in a line on standard error."""
    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        with console.status(Text(what)):
            yield
    else:
        print(what, file=sys.stderr, flush=True)
        yield


class Pace:
    """What a display shows of the steps so far: smoothed loss and speed."""

    def __init__(self) -> None:
        self._loss = Average()
        self._tokens = Average()
        self._seconds = Average()

    def add(self, step: StepEnd) -> str:
        """Take in a step and return `loss 0.482  12.3k tokens/s`."""
        loss = self._loss.add(step.loss)
        tokens, seconds = self._tokens.add(step.tokens), self._seconds.add(step.seconds)
        speed = f"  {magnitude(tokens / seconds)} tokens/s" if seconds > 0 else ""
        return f"loss {loss:.4f}{speed}"


class BarProgress:
    """A progress bar with the smoothed loss, tokens a second, the time left and the last validation score."""

    def __init__(self, console: Console, scale: Scale = PERCENT) -> None:
        self._pace = Pace()
        self._scale = scale
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("[bold]{task.fields[score]}"),
            console=console,
            expand=True,
        )
        self._task: TaskID | None = None

    @hookimpl
    def run_started(self, run: RunStart) -> None:
        """Show the bar."""
        self._bar.console.print(Text(describe_start(run)))
        self._task = self._bar.add_task("training", total=run.total_steps, completed=run.first_step, pace="", score="")
        self._bar.start()

    @hookimpl
    def step_ended(self, step: StepEnd) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bar.update(self._task, completed=step.step, pace=self._pace.add(step))

    @hookimpl
    def evaluation_ended(self, evaluation: EvaluationEnd) -> None:
        """Print the scores above the bar and keep the first beside it."""
        self._bar.console.print(
            Text(describe_evaluation(evaluation, self._scale), style="bold" if evaluation.best else "")
        )
        if self._task is not None:
            self._bar.update(self._task, score=describe_scores(evaluation, self._scale, at_most=1))

    @hookimpl
    def note_added(self, note: str) -> None:
        """Print the note above the bar."""
        self._bar.console.print(Text(f"note: {note}"))

    @hookimpl
    def run_ended(self) -> None:
        """Leave the finished bar on the screen."""
        self._bar.stop()

    @hookimpl
    def run_failed(self) -> None:
        """Leave the bar where it stands, so that the error follows on a line of its own."""
        self._bar.stop()


class LineProgress:
    """A line at most every `every` seconds, and one for each evaluation; `clock` gives the seconds."""

    def __init__(
        self,
        stream: TextIO,
        scale: Scale = PERCENT,
        every: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._scale = scale
        self._every = every
        self._clock = clock
        self._pace = Pace()
        self._total = 0
        self._first = 0
        self._started = 0.0
        self._written = 0.0

    @hookimpl
    def run_started(self, run: RunStart) -> None:
        """Say what starts."""
        self._total, self._first = run.total_steps, run.first_step
        self._started = self._written = self._clock()
        self._write(describe_start(run))

    @hookimpl
    def step_ended(self, step: StepEnd) -> None:
        """Write a line if the last one is old enough."""
        pace, now = self._pace.add(step), self._clock()
        if now - self._written < self._every:
            return
        self._written = now
        left = (now - self._started) / (step.step - self._first) * (self._total - step.step)
        self._write(f"step {step.step}/{self._total}  {pace}  {duration(left)} left")

    @hookimpl
    def evaluation_ended(self, evaluation: EvaluationEnd) -> None:
        """Write the scores."""
        self._write(describe_evaluation(evaluation, self._scale))

    @hookimpl
    def note_added(self, note: str) -> None:
        """Write the note."""
        self._write(f"note: {note}")

    @hookimpl
    def run_ended(self, run: RunEnd) -> None:
        """Say how long it took."""
        self._write(f"finished in {duration(run.seconds)}")

    def _write(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


def describe_start(run: RunStart) -> str:
    """Say what is trained on what."""
    splits = ", ".join(f"{count(rows)} {split}" for split, rows in run.examples.items())
    what = f"training {', '.join(run.tasks)} on {run.backbone} ({magnitude(run.parameters)} parameters); rows: {splits}"
    notes = [f"note: {note}" for note in run.notes]
    trained = (
        describe_trained(run.adapter, run.trained, run.parameters, run.head, run.adapters)
        if run.trained or run.head
        else ""
    )
    return "\n".join(line for line in (what, trained, run.settings, run.device, *notes) if line)


def describe_evaluation(evaluation: EvaluationEnd, scale: Scale = PERCENT) -> str:
    """Say where the run stands and what was scored."""
    best = "  (best)" if evaluation.best else ""
    loss = f"loss {evaluation.loss:.4f}"
    return f"step {evaluation.step}  epoch {evaluation.epoch:.2f}  {describe_scores(evaluation, scale)}  {loss}{best}"


def describe_scores(evaluation: EvaluationEnd, scale: Scale = PERCENT, at_most: int = 3) -> str:
    """Name the split and its first scores; where there are several tasks, their mean and the first one of each."""
    scores = list(evaluation.scores.items())[:at_most]
    if evaluation.tasks and at_most > 1:
        firsts = [
            (f"{task}.{name}", one.scores[name]) for task, one in evaluation.tasks.items() for name in [*one.scores][:1]
        ]
        scores = [*scores[:1], *firsts]
    return "  ".join([evaluation.split, *(f"{name} {scale.score(name, score)}" for name, score in scores)])
