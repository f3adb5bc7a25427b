"""Evaluation: predictions of a split, one batch at a time, so that outputs never pile up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from vertebra.engine.devices import Devices
from vertebra.engine.model import TaskModel
from vertebra.engine.packing import PackedBatch, pack
from vertebra.engine.readout import arriving
from vertebra.metrics.metric import Counts, Metric
from vertebra.tasks.features import Features
from vertebra.tasks.task import Row, Task


@dataclass(frozen=True)
class Evaluation:
    """What a split's evaluation gave: one prediction and one reference for each row, and what the metrics made of them."""

    split: str
    loss: float
    scores: dict[str, float]
    counts: dict[str, Counts]
    """For each metric what every row counts, (E, K)."""
    predictions: list[Any]
    references: list[Any]


@dataclass(frozen=True)
class Part:
    """The prediction of one sequence, which may be one window of a row."""

    example: int
    window: int
    value: Any
    loss: float
    """Mean over this sequence's batch."""
    n_targets: int


def evaluate(
    model: TaskModel,
    task: Task,
    split: str,
    rows: Sequence[Row],
    features: Sequence[Features],
    metrics: Sequence[Metric],
    devices: Devices,
    *,
    calibrate: bool = False,
) -> Evaluation:
    """Predict every row of a split and score the predictions; with several processes each computes a part.

    `calibrate` lets the task choose on these rows what it predicts with.
    """
    share(model, task, devices)
    processes, rank = devices.accelerator.num_processes, devices.accelerator.process_index
    mine = sorted(features, key=len, reverse=True)[rank::processes]
    parts: list[Part] = list(predict_parts(model, task, mine, devices))
    if processes > 1:
        parts = gather_object(parts)
    values = by_row(rows, parts)
    if calibrate:
        task.calibrate(rows, values)
    predictions = [task.combine(*pair) for pair in zip(rows, values, strict=True)]
    references = [task.reference(row) for row in rows]
    counts = {metric.name: count(metric, predictions, references) for metric in metrics}
    n_targets = sum(part.n_targets for part in parts)
    return Evaluation(
        split=split,
        loss=sum(part.loss * part.n_targets for part in parts) / max(1, n_targets),
        scores={metric.name: metric.score(counts[metric.name]) for metric in metrics},
        counts=counts,
        predictions=predictions,
        references=references,
    )


@torch.no_grad()
def share(model: TaskModel, task: Task, devices: Devices) -> None:
    """Give the task what the model makes of the sequences that its rows share, each process all of them."""
    if not task.shared:
        return
    model.eval()

    def compute(piece: Sequence[Features]) -> tuple[PackedBatch, Tensor]:
        batch = pack(piece, lambda _: None).to(devices.accelerator.device)
        with devices.autocast_for_evaluation():
            return batch, model(batch, task.name)

    padded = model.backbone.info.packing == "padded"
    outputs: dict[int, Tensor] = {}
    with model.backbone.prepacked(devices.evaluation_dtype):
        for batch, outputs_P in devices.budget.in_pieces(
            task.shared, compute, lambda piece: f"shared sequence {piece[0].example + 1}", padded=padded
        ):
            parts = torch.split(outputs_P, list(batch.position_counts))
            outputs |= {one.example: part for one, part in zip(batch.features, parts, strict=True)}
    task.take_shared(model.heads[task.name], [outputs[number] for number in range(len(task.shared))])


@torch.no_grad()
def predict_parts(model: TaskModel, task: Task, features: Sequence[Features], devices: Devices) -> Iterator[Part]:
    """Yield the prediction of each sequence, batches of like length one after the other."""
    model.eval()
    device = devices.accelerator.device

    def compute(piece: Sequence[Features]) -> tuple[PackedBatch, Tensor, Tensor]:
        batch = pack(piece, task.collate).to(device)
        with devices.autocast_for_evaluation():
            outputs = model(batch, task.name)
        if batch.targets is None or not batch.n_targets:
            return batch, outputs, outputs.new_zeros(())
        return batch, outputs, task.loss(outputs, batch.targets)

    padded = model.backbone.info.packing == "padded"
    results = devices.budget.in_pieces(features, compute, lambda piece: f"row {piece[0].example + 1}", padded=padded)
    with model.backbone.prepacked(devices.evaluation_dtype):
        for batch, outputs, loss in arriving(results, late=device.type == "cuda"):
            for one, value in zip(batch.features, task.decode(outputs, batch), strict=True):
                yield Part(one.example, one.window, value, float(loss), one.n_targets)


def by_row(rows: Sequence[Row], parts: Sequence[Part]) -> list[list[Any]]:
    """Return the values of the windows of each row, in the rows' order."""
    values: list[list[Any]] = [[] for _ in rows]
    for part in sorted(parts, key=lambda part: (part.example, part.window)):
        values[part.example].append(part.value)
    return values


def count(metric: Metric, predictions: Sequence[Any], references: Sequence[Any]) -> Counts:
    """Return what every row counts for a metric, (E, K)."""
    counted = [metric.count(*pair) for pair in zip(predictions, references, strict=True)]
    return np.asarray(counted, dtype=np.float64).reshape(len(counted), -1)
