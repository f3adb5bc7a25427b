"""The outputs that a task's own loss likes best, and what it decodes them to.

No output is written down by hand: the outputs of an untrained head are free numbers, which descend along the gradient of
the loss. So any task can be asked whether encoding, loss and decoding speak of the same thing.

Letters: P positions that the head reads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vertebra.engine.evaluate import Part, by_row, share
from vertebra.engine.packing import PackedBatch, pack
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.generation import Generation
from vertebra.tasks.task import Task
from vertebra.testing.breaches import DoesNotApplyError
from vertebra.testing.case import Case

STEPS = 400
RATE = 0.1


def gold_predictions(case: Case) -> list[Any]:
    """Return the predictions of the judged rows that follow from the best outputs."""
    prepared, model = case.prepared
    task, rows = prepared.task, case.rows
    if isinstance(task, Generation):
        return [task.references(row)[0] for row in rows]
    if isinstance(task, CorpusTask):
        return [{**one, "nats": 0.0, "right": one["tokens"]} for one in case.untrained.predictions]
    share(model, task, case.devices)
    batch = pack(case.features, task.collate)
    if batch.targets is None:
        raise DoesNotApplyError("its features have no targets")
    with torch.no_grad():
        outputs = model(batch, task.name)
    best = descend(task, outputs, batch.targets)
    parts = [
        Part(one.example, one.window, value, 0.0, one.n_targets)
        for one, value in zip(batch.features, decoded(task, best, batch), strict=True)
    ]
    return [task.combine(*pair) for pair in zip(rows, by_row(rows, parts), strict=True)]


def decoded(task: Task, outputs: Tensor, batch: PackedBatch) -> list[Any]:
    """Return what a task decodes, one for each sequence of the batch."""
    with torch.no_grad():
        values = task.decode(outputs, batch)
    if len(values) != len(batch):
        raise ValueError(f"decode gave {len(values)} predictions for a batch of {len(batch)} sequences")
    return values


def descend(task: Task, outputs_P: Tensor, targets: Tensor) -> Tensor:
    """Return the outputs after many steps along the gradient of the loss."""
    free_P = outputs_P.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([free_P], lr=RATE)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        optimizer.zero_grad()
        task.loss(free_P, targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return free_P.detach()
