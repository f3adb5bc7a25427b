"""How far a run is, and which of its scores are the best ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from vertebra.errors import RunError


@dataclass
class Progress:
    """All that a checkpoint needs beside weights and the optimizer's state."""

    step: int = 0
    best_score: float | None = None
    """With several tasks the mean of their primary scores."""
    best_step: int = 0
    token_budget: int = 0
    """Tokens of one pass, which are fewer where memory ran out."""
    best_scores: dict[str, float] = field(default_factory=dict)
    """The best score of each task that was evaluated."""
    stale: dict[str, int] = field(default_factory=dict)
    """Evaluations of each task since its own best one."""

    @classmethod
    def read(cls, state: Mapping[str, Any]) -> Progress:
        """Return the progress in a checkpoint's state; `RunError` where there is none."""
        if set(state) != {one.name for one in fields(cls)} or not _is_sound(state):
            raise RunError(f"The newest checkpoint is not one of this run: its state is {str(dict(state))[:80]}.")
        return cls(**state)

    def note_task(self, task: str, score: float, *, higher: bool) -> bool:
        """Keep a task's score if it is its best so far, the highest where `higher` says so; say whether it is."""
        best = is_better(score, self.best_scores.get(task), higher=higher)
        if best:
            self.best_scores[task] = score
        self.stale[task] = 0 if best else self.stale.get(task, 0) + 1
        return best

    def note(self, score: float, *, higher: bool) -> bool:
        """Keep the score of all tasks if it is the best so far; say whether it is."""
        best = is_better(score, self.best_score, higher=higher)
        if best:
            self.best_score, self.best_step = score, self.step
        return best


def is_better(score: float, best: float | None, *, higher: bool) -> bool:
    """Whether a score is better than the best one so far, if there is any."""
    return best is None or (score > best if higher else score < best)


def _is_sound(state: Mapping[str, Any]) -> bool:
    scores, stale = state["best_scores"], state["stale"]
    if not isinstance(scores, dict) or not isinstance(stale, dict) or set(scores) != set(stale):
        return False
    counts = [state["step"], state["best_step"], state["token_budget"], *stale.values()]
    numbers = [score for score in (state["best_score"], *scores.values()) if score is not None]
    return all(isinstance(count, int) and count >= 0 for count in counts) and all(
        isinstance(number, float | int) for number in numbers
    )
