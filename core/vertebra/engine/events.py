"""What the observers of a run are told: plain values, so that watching cannot change a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class RunStart:
    """A run is about to make its first step."""

    folder: Path
    """The folder of the run."""
    key: str
    """The hash of what decides the result."""
    tasks: tuple[str, ...]
    """The names of the tasks."""
    backbone: str
    """The name of the backbone."""
    parameters: int
    """The backbone's parameters."""
    examples: dict[str, int]
    """Rows of each split."""
    total_steps: int
    """Steps that the run makes unless it stops early."""
    first_step: int
    """The steps that are made already: 0, or more in a run that is resumed."""
    notes: tuple[str, ...]
    """What a reader of the results must know, such as `random weights`."""
    device: str = ""
    """What is computed on, and how."""
    settings: str = ""
    """What the trainer's settings came to, `auto` resolved."""
    adapter: str = "none"
    """The adapter's name."""
    trained: int = 0
    """Those of the backbone's parameters that are trained."""
    head: int = 0
    """Parameters of the heads, beside the backbone's."""
    adapters: int = 1
    """How many adapters there are: one, or one for each task."""

    @property
    def trainable_parameters(self) -> int:
        """Of backbone and head together."""
        return self.trained + self.head


@dataclass(frozen=True)
class StepEnd:
    """A training step was made."""

    step: int
    """Steps made so far, this one included."""
    epoch: float
    """Epochs made so far."""
    loss: float
    """The mean loss over the step's targets."""
    learning_rate: float
    """The rate of the first group of parameters in this step."""
    gradient_norm: float
    """The norm of all gradients before they are clipped."""
    tokens: int
    """Tokens that were read in this step."""
    seconds: float
    """How long the step took."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """The mean loss over each task's targets, where a run has several tasks, of those that were in the step."""


@dataclass(frozen=True)
class EvaluationEnd:
    """A split was evaluated."""

    step: int
    """Steps made so far."""
    epoch: float
    """Epochs made so far."""
    split: str
    """valid or test."""
    scores: dict[str, float]
    """Each metric's score, as a fraction."""
    loss: float
    """The mean loss over the split's targets."""
    seconds: float
    """How long the evaluation took."""
    best: bool
    """Whether this is the best validation score so far."""
    tasks: Mapping[str, EvaluationEnd] = field(default_factory=dict)
    """What each task scored, where a run has several; `scores` has then their mean first, and theirs, as `ner.entity_f1`."""


@dataclass(frozen=True)
class RunEnd:
    """A run succeeded."""

    folder: Path
    """The folder of the run."""
    metrics: dict[str, dict[str, float]]
    """The scores of each split, as fractions."""
    seconds: float
    """How long the run took."""
