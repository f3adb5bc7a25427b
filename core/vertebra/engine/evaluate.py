"""Evaluation: predictions of a split, one batch at a time, so that outputs never pile up."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from vertebra.engine.devices import Devices
from vertebra.engine.model import TaskModel
from vertebra.engine.packing import PackedBatch, cut, pack
from vertebra.engine.readout import arriving
from vertebra.engine.writer import Writer
from vertebra.metrics.metric import Counts, Metric, count
from vertebra.tasks.features import Features
from vertebra.tasks.generation import Generation
from vertebra.tasks.task import Row, Task


@dataclass(frozen=True)
class Evaluation:
    """What a split's evaluation gave: a prediction and a reference for each row that was predicted, and their scores."""

    split: str
    loss: float
    """Over all rows."""
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
    only: Sequence[int] | None = None,
) -> Evaluation:
    """Predict a split's rows, `only` some or all of them, and score the predictions; the loss is of all.

    With several processes each computes a part. `calibrate` lets the task choose on these rows what it predicts with.
    """
    share(model, task, devices)
    processes, rank = devices.accelerator.num_processes, devices.accelerator.process_index
    mine = sorted(features, key=len, reverse=True)[rank::processes]
    shortest = min(features, key=len, default=None)
    parts: list[Part] = list(predict_parts(model, task, mine, devices, only=only, idle=shortest))
    if processes > 1:
        parts = gather_object(parts)
    values = by_row(rows, parts)
    if only is not None:
        rows, values = [rows[number] for number in only], [values[number] for number in only]
    if calibrate:
        task.calibrate(rows, values)
    predictions = [task.combine(*pair) for pair in zip(rows, values, strict=True)]
    references = [task.reference(row) for row in rows]
    counts = {metric.name: count(metric, predictions, references, rows) for metric in metrics if rows}
    n_targets = sum(part.n_targets for part in parts)
    return Evaluation(
        split=split,
        loss=sum(part.loss * part.n_targets for part in parts) / max(1, n_targets),
        scores={metric.name: metric.score(counts[metric.name]) for metric in metrics if rows},
        counts=counts,
        predictions=predictions,
        references=references,
    )


def predict_parts(
    model: TaskModel,
    task: Task,
    features: Sequence[Features],
    devices: Devices,
    *,
    only: Collection[int] | None = None,
    writer: Writer | None = None,
    idle: Features | None = None,
) -> Iterator[Part]:
    """Yield the prediction of each sequence, batches of like length one after the other.

    Where the task writes texts, `only` says for which rows (by default all), and `writer` may be one that has these weights.
    Processes that share the weights make passes over `idle` while others still have sequences.
    """
    if isinstance(task, Generation):
        yield from _text_parts(model, task, features, devices, only, writer)
    else:
        yield from _output_parts(model, task, features, devices, idle)


def _text_parts(
    model: TaskModel,
    task: Generation,
    features: Sequence[Features],
    devices: Devices,
    only: Collection[int] | None,
    writer: Writer | None,
) -> Iterator[Part]:
    """Yield for each sequence its text and, where it has targets, its loss."""
    wanted = [one for one in features if only is None or one.example in only]
    texts: dict[tuple[int, int], str] = {}
    if wanted:
        writer = writer or Writer(model.backbone_of(task.name), task, devices)
        written = writer.write(wanted)
        texts = {(one.example, one.window): text for one, text in zip(wanted, written, strict=True)}
    for part in _output_parts(model, task, [one for one in features if one.n_targets], devices):
        yield replace(part, value=texts.get((part.example, part.window)))
    for one in features:
        if not one.n_targets:
            yield Part(one.example, one.window, texts.get((one.example, one.window)), 0.0, 0)


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
def _output_parts(
    model: TaskModel, task: Task, features: Sequence[Features], devices: Devices, idle: Features | None = None
) -> Iterator[Part]:
    """Yield what the task decodes of the head's outputs for each sequence."""
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
    passes = len(cut(features, devices.budget.tokens, padded=padded))
    # Agreed upon before the first one: within passes, processes exchange other things.
    missing = devices.largest(passes) - passes if devices.sharded else 0
    results = devices.budget.in_pieces(features, compute, lambda piece: f"row {piece[0].example + 1}", padded=padded)
    with model.backbone.prepacked(devices.evaluation_dtype):
        for batch, outputs, loss in arriving(results, late=device.type == "cuda"):
            for one, value in zip(batch.features, task.decode(outputs, batch), strict=True):
                yield Part(one.example, one.window, value, float(loss), one.n_targets)
        for _ in range(missing):
            assert idle is not None
            compute([idle])


def by_row(rows: Sequence[Row], parts: Sequence[Part], first: int = 0) -> list[list[Any]]:
    """Return the values of the windows of each row, in the rows' order; `first` is the number of the first row."""
    values: list[list[Any]] = [[] for _ in rows]
    for part in sorted(parts, key=lambda part: (part.example, part.window)):
        values[part.example - first].append(part.value)
    return values
