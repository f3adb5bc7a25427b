"""Vertebra's evaluation as a run uses it, over the same workload."""

from __future__ import annotations

from typing import Any

from vertebra.config.schema import GPUConfig
from vertebra.engine.devices import set_up
from vertebra.engine.evaluate import predict_parts
from vertebra.tasks.features import Features
from vertebra_speed.clock import Clock, peak_memory
from vertebra_speed.own.train import load_model
from vertebra_speed.workload import Workload

WARMUP = 32
"""Rows that are predicted before each turn."""


class VertebraEvaluation:
    """Our evaluation over one workload."""

    def __init__(self, folder: str, precision: str, threads: int, device: str) -> None:
        self.workload, self.device = Workload.read(folder), device
        self.devices = set_up(
            GPUConfig(device=device, precision=precision, evaluation_precision=precision, threads=threads)  # type: ignore[arg-type]
        )
        self.model = load_model(self.workload).to(device)

    def evaluate(self, rows: int, seed: int) -> dict[str, Any]:
        """Predict so many rows of the validation split."""
        features = self.workload.rows("valid", rows)
        self._predict(features[:WARMUP])
        clock = Clock(self.device)
        self._predict(features)
        return clock.turn(sum(map(len, features)), 1)

    def labels(self, rows: int) -> dict[str, Any]:
        """Return the likeliest label of each word or text, in the split's order."""
        names = self.workload.task.state()["labels"]
        found = self._predict(self.workload.rows("valid", rows))
        return {"labels": [names.index(label) for example in sorted(found) for label in found[example]]}

    def memory(self) -> dict[str, Any]:
        """Return the most memory held so far."""
        return peak_memory(self.device)

    def _predict(self, features: list[Features]) -> dict[int, list[str]]:
        parts = predict_parts(self.model, self.workload.task, features, self.devices)
        return {part.example: part.value if isinstance(part.value, list) else [part.value] for part in parts}
