"""The log of a run: an observer that writes losses and scores into the run folder as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vertebra.engine.events import EvaluationEnd, StepEnd
from vertebra.host.hookspecs import hookimpl
from vertebra.report.read import read_lines
from vertebra.runs.folder import TASKS, RunFolder


class RunLog:
    """Writes `log.jsonl` every `every` steps, and `evaluations.jsonl`; no times, so that equal runs have equal logs."""

    def __init__(self, run: RunFolder, every: int) -> None:
        self.run = run
        self.every = every

    def rewind(self, step: int) -> None:
        """Take back what was written after a step, to go on from there."""
        tasks = [RunFolder(path) for path in self.run.path.glob(f"{TASKS}/*")]
        for run, name in [(self.run, "log.jsonl"), *((run, "evaluations.jsonl") for run in (self.run, *tasks))]:
            run.write_lines(name, [line for line in read_lines(run, name) if _stays(line, step)])

    @hookimpl
    def step_ended(self, step: StepEnd) -> None:
        """Write a line every so many steps."""
        if step.step % self.every and step.step != 1:
            return
        self.run.append_line(
            "log.jsonl",
            {
                "step": step.step,
                "epoch": round(step.epoch, 4),
                "loss": step.loss,
                "learning_rate": step.learning_rate,
                "gradient_norm": step.gradient_norm,
                **({"losses": dict(step.losses)} if step.losses else {}),
            },
        )

    @hookimpl
    def evaluation_ended(self, evaluation: EvaluationEnd) -> None:
        """Write the scores of a split."""
        self.run.append_line("evaluations.jsonl", _line(evaluation))
        for task, one in evaluation.tasks.items():
            self.run.of_task(task).append_line("evaluations.jsonl", _line(one))


def _line(evaluation: EvaluationEnd) -> dict[str, Any]:
    return {
        "step": evaluation.step,
        "epoch": round(evaluation.epoch, 4),
        "split": evaluation.split,
        "scores": evaluation.scores,
        "loss": evaluation.loss,
        "best": evaluation.best,
    }


def _stays(line: Mapping[str, Any], step: int) -> bool:
    """Whether a line was written up to this step, and not by the last evaluation, which comes once more."""
    return line["step"] <= step and line.get("split") != "test"
