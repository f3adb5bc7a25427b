"""Whether the loss is what the trainer takes it for: the mean over the targets, however they are cut into passes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from vertebra.engine.evaluate import share
from vertebra.engine.packing import pack
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
    together = task.loss(model(batch, task.name), batch.targets)
    seen = (
        together.detach()
    )  # torch warns where a tensor with a gradient becomes a number, and a warning may be an error
    if together.numel() != 1 or not math.isfinite(float(seen)):
        what = f"it gives {tuple(together.shape)} numbers" if together.numel() != 1 else f"it gives {float(seen)}"
        yield Breach(where, what, "the loss of a batch is one finite number: reduction='mean', and no logarithm of 0")
        return
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(together, trained, allow_unused=True) if together.requires_grad else []
    if not any(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients):
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
    if not math.isclose(mean, float(seen), rel_tol=1e-3, abs_tol=1e-4):
        yield Breach(
            where,
            f"{len(features)} sequences have a loss of {float(seen):.5g} in one batch, and {mean:.5g} as the mean of each "
            "alone, weighted by their targets",
            "the loss is a sum, is divided by something else than the number of targets, or compares the sequences of a batch "
            "with each other: it would depend on how memory cuts a step",
        )
