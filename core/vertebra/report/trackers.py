"""Scores for experiment trackers: TensorBoard, W&B and MLflow, through accelerate's classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertebra.errors import ConfigError
from vertebra.host.hookspecs import hookimpl
from vertebra.names import unknown

if TYPE_CHECKING:
    from vertebra.config.schema import RunConfig
    from vertebra.engine.events import EvaluationEnd, StepEnd

PROJECT = "vertebra"
INSTALL = {
    "tensorboard": "pip install tensorboard",
    "wandb": "pip install 'vertebra[wandb]'",
    "mlflow": "pip install 'vertebra[mlflow]'",
}
"""The known trackers, each also the name of its package, and how to install it."""


def check_trackers(names: Iterable[str]) -> None:
    """Raise `ConfigError` for a tracker that is not known or not installed; imports none of them."""
    for name in names:
        if name not in INSTALL:
            raise ConfigError(unknown("tracker", name, INSTALL))
        if find_spec(name) is None:
            raise ConfigError(
                f"trainer.trackers names '{name}', which is not installed. "
                f"Install it with {INSTALL[name]}, or leave it out."
            )


def create_trackers(names: Iterable[str], folder: Path, config_document: Mapping[str, Any]) -> TrackerObserver:
    """Return the observer that forwards a run's scores to the trackers of these names.

    TensorBoard writes to `folder/tensorboard`, W&B to `folder` and its own service, MLflow where its environment
    variables say. `config_document` is the run's configuration; its values are stored under dotted names. Raises
    `ConfigError` for a tracker that is not known or not installed. Nothing is written before the run starts.
    """
    names = list(dict.fromkeys(names))
    check_trackers(names)
    return TrackerObserver([_create(name, folder) for name in names], dict(flatten(config_document)))


class TrackerObserver:
    """Forwards the training loss every `trainer.log_every` steps, and each evaluation, to every tracker."""

    def __init__(self, trackers: list[Any], config: dict[str, bool | int | float | str]) -> None:
        self._trackers = trackers
        self._open: list[Any] = []
        self._config = config
        self._every = 1
        self._step = 0

    @hookimpl
    def run_started(self, config: RunConfig) -> None:
        """Open the trackers and store the configuration."""
        self._every = config.trainer.log_every
        for tracker in self._trackers:
            tracker.start()
            self._open.append(tracker)
            tracker.store_init_configuration(self._config)

    @hookimpl
    def step_ended(self, step: StepEnd) -> None:
        """Forward loss, learning rate, gradient norm and speed."""
        if step.step % self._every:
            return
        speed = {"tokens_per_second": step.tokens / step.seconds} if step.seconds > 0 else {}
        values = {"loss": step.loss, "learning_rate": step.learning_rate, "gradient_norm": step.gradient_norm, **speed}
        self._log("train", values, step.step)

    @hookimpl
    def evaluation_ended(self, evaluation: EvaluationEnd) -> None:
        """Forward the scores of a split."""
        self._log(evaluation.split, {"loss": evaluation.loss, **evaluation.scores}, evaluation.step)

    @hookimpl
    def run_ended(self) -> None:
        """Close the trackers."""
        self._finish()

    @hookimpl
    def run_failed(self) -> None:
        """Close the trackers that the run had opened, so that what was logged is kept."""
        self._finish()

    def _log(self, group: str, values: dict[str, float], step: int) -> None:
        self._step = max(self._step, step)  # W&B drops what goes back, as a test of an earlier best checkpoint would
        for tracker in self._open:
            tracker.log({f"{group}/{name}": float(value) for name, value in values.items()}, step=self._step)

    def _finish(self) -> None:
        while self._open:
            self._open.pop().finish()


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """Yield the leaves of nested mappings and sequences under dotted names; what no tracker can hold becomes text."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        yield name, value if isinstance(value, (bool, int, float, str)) else str(value)
        return
    for key, inner in items:
        yield from flatten(inner, f"{name}.{key}" if name else str(key))


def _create(name: str, folder: Path) -> Any:
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    if name == "tensorboard":
        return TensorBoardTracker(name, logging_dir=folder)
    if name == "wandb":
        return WandBTracker(PROJECT, name=folder.name, dir=str(folder))
    return MLflowTracker(PROJECT, run_name=folder.name)
