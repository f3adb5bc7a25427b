"""What the observers of a run are told: plain values, so that watching cannot change a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunStart:
    """A run is about to make its first step."""

    folder: Path
    key: str
    tasks: tuple[str, ...]
    backbone: str
    parameters: int
    examples: dict[str, int]
    """Rows of each split."""
    total_steps: int
    first_step: int
    notes: tuple[str, ...]
    """What a reader of the results must know, such as `random weights`."""
    device: str = ""
    """What is computed on, and how."""
    settings: str = ""
    """What the trainer's settings came to, `auto` resolved."""
    adapter: str = "none"
    trained: int = 0
    """Those of the backbone's parameters that are trained."""
    head: int = 0
    """Parameters of the heads, beside the backbone's."""


@dataclass(frozen=True)
class StepEnd:
    """A training step was made."""

    step: int
    """Steps made so far, this one included."""
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float


@dataclass(frozen=True)
class EvaluationEnd:
    """A split was evaluated."""

    step: int
    epoch: float
    split: str
    scores: dict[str, float]
    loss: float
    seconds: float
    best: bool
    """Whether this is the best validation score so far."""


@dataclass(frozen=True)
class RunEnd:
    """A run succeeded."""

    folder: Path
    metrics: dict[str, dict[str, float]]
    seconds: float
