"""The log of a run: an observer that writes losses and scores into the run folder as they come."""

from __future__ import annotations

from vertebra.engine.events import EvaluationEnd, StepEnd
from vertebra.host.hookspecs import hookimpl
from vertebra.runs.folder import RunFolder


class RunLog:
    """Writes `log.jsonl` every `every` steps, and `evaluations.jsonl`."""

    def __init__(self, run: RunFolder, every: int) -> None:
        self.run = run
        self.every = every

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
                "tokens_per_second": round(step.tokens / step.seconds, 1),
            },
        )

    @hookimpl
    def evaluation_ended(self, evaluation: EvaluationEnd) -> None:
        """Write the scores of a split."""
        self.run.append_line(
            "evaluations.jsonl",
            {
                "step": evaluation.step,
                "epoch": round(evaluation.epoch, 4),
                "split": evaluation.split,
                "scores": evaluation.scores,
                "loss": evaluation.loss,
                "best": evaluation.best,
            },
        )
