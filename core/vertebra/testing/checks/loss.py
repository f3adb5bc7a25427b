"""Whether the loss is what the trainer takes it for: the mean over the targets, however they are cut into passes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from vertebra.engine.evaluate import share
from vertebra.engine.model import TaskModel
from vertebra.engine.packing import PackedBatch, pack
from vertebra.tasks.task import Task
from vertebra.testing.breaches import Breach, DoesNotApplyError
from vertebra.testing.case import Case

SEQUENCES = 8


def check(case: Case) -> Iterator[Breach]:
    """Compare the loss of a batch with those of its sequences alone, and ask for its gradient."""
    prepared, model = case.prepared
    task = prepared.task
    share(model, task, case.devices)
    features = [one for one in case.features if one.n_targets][:SEQUENCES]
    if not features:
        raise DoesNotApplyError("no sequence has a target")
    batch = pack(features, task.collate)
    assert batch.targets is not None
    where = case.place("loss")
    with torch.no_grad():
        together = task.loss(model(batch, task.name), batch.targets)
    if together.numel() != 1 or not math.isfinite(float(together)):
        what = f"it gives {tuple(together.shape)} numbers" if together.numel() != 1 else f"it gives {float(together)}"
        yield Breach(where, what, "the loss of a batch is one finite number: reduction='mean', and no logarithm of 0")
        return
    if not has_gradient(task, model, batch):
        yield Breach(
            where,
            "no parameter gets a gradient from it: nothing can be learnt",
            "outputs are detached, rounded or compared (argmax, ==) before the loss, or the loss does not depend on them",
        )
        return
    alone = 0.0
    for one in features:
        single = pack([one], task.collate)
        assert single.targets is not None
        with torch.no_grad():
            alone += float(task.loss(model(single, task.name), single.targets)) * one.n_targets
    mean = alone / sum(one.n_targets for one in features)
    if not math.isclose(mean, float(together), rel_tol=1e-3, abs_tol=1e-4):
        yield Breach(
            where,
            f"{len(features)} sequences have a loss of {float(together):.5g} in one batch, and {mean:.5g} as the mean of each "
            "alone, weighted by their targets",
            "the loss is a sum, is divided by something else than the number of targets, or compares the sequences of a batch "
            "with each other: it would depend on how memory cuts a step",
        )


def has_gradient(task: Task, model: TaskModel, batch: PackedBatch) -> bool:
    """Whether a pass of training changes anything."""
    assert batch.targets is not None
    model.train()
    try:
        loss = task.loss(model(batch, task.name), batch.targets)
    finally:
        model.eval()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, trained, allow_unused=True) if loss.requires_grad else ()
    return any(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients)
