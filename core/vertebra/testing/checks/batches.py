"""Whether a sequence gets the same outputs and predictions alone as beside others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vertebra.engine.evaluate import share
from vertebra.engine.packing import PackedBatch, pack
from vertebra.tasks.features import Features
from vertebra.testing.breaches import Breach
from vertebra.testing.case import Case, numbered
from vertebra.testing.gold import decoded
from vertebra.testing.likeness import alike, brief

CAUSE = (
    "a mean, a maximum or a norm over all positions of the batch, in the head or in `decode`, or predictions in another "
    "order than `batch.features`: a `BatchHead` sees in `batch.position_counts` which positions belong together"
)


def check(case: Case) -> Iterator[Breach]:
    """Compare outputs and predictions of each sequence alone with those of one batch of all."""
    prepared, model = case.prepared
    task, head = prepared.task, model.heads[prepared.task.name]
    share(model, task, case.devices)
    where = case.place("build_head")
    if mixing := [type(one).__name__ for one in head.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]:
        yield Breach(
            where,
            f"the head has a {mixing[0]}: in training, a sequence's output depends on its batch",
            "batch normalization; a LayerNorm looks at one position alone",
        )
    features = numbered(case.features)
    together = outcomes(case, features)
    for one in features:
        alone = outcomes(case, [one])[0]
        if not (alike(alone[0], together[one.example][0], 1e-3)):
            what = f"alone {brief(alone[0])}, among {len(features)} sequences {brief(together[one.example][0])}"
            yield Breach(where, f"a sequence's outputs change with its batch: {what}", CAUSE)
            return
        if not alike(alone[1], together[one.example][1], 1e-3):
            what = f"alone {brief(alone[1])}, among {len(features)} sequences {brief(together[one.example][1])}"
            yield Breach(case.place("decode"), f"a sequence's prediction changes with its batch: {what}", CAUSE)
            return


def outcomes(case: Case, features: Sequence[Features]) -> list[tuple[Any, Any]]:
    """Return the outputs and the prediction of each sequence, in their order, computed in one batch."""
    prepared, model = case.prepared
    batch = pack(features, prepared.task.collate)
    with torch.no_grad():
        outputs = model(batch, prepared.task.name)
    values = zip(batch.features, parted(outputs, batch), decoded(prepared.task, outputs, batch), strict=True)
    by_number = {one.example: (own, prediction) for one, own, prediction in values}
    return [by_number[number] for number in sorted(by_number)]


def parted(outputs: Tensor, batch: PackedBatch) -> list[Any]:
    """Return the outputs of each sequence where they can be told apart: one for each, or one for each position."""
    if len(outputs) == len(batch):
        return [one.tolist() for one in outputs]
    if len(outputs) == sum(batch.position_counts):
        return [one.tolist() for one in torch.split(outputs, list(batch.position_counts))]
    return [None] * len(batch)  # such as the loss that a language model's head gives
