"""Whether a sequence gets the same outputs and predictions alone as beside others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vertebra.engine.evaluate import predict_parts, share
from vertebra.engine.packing import PackedBatch, pack
from vertebra.tasks.features import Features
from vertebra.tasks.generation import Generation
from vertebra.testing.breaches import Breach
from vertebra.testing.case import Case, numbered
from vertebra.testing.gold import decoded
from vertebra.testing.likeness import alike, brief

CAUSE = (
    "a mean, a maximum or a norm over all positions of the batch, in the head or in `decode`, or predictions in another "
    "order than `batch.features`: a `BatchHead` sees in `batch.position_counts` which positions belong together"
)

TEXT_CAUSE = "`request` counts its calls, or draws a seed that is no function of the row"
TEXTS = 4


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
    if isinstance(task, Generation):
        yield from check_texts(case, numbered(case.features)[:TEXTS])
        return
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


def check_texts(case: Case, features: Sequence[Features]) -> Iterator[Breach]:
    """Compare the texts that are written one at a time with those that are written together."""
    prepared, model = case.prepared
    together = {part.example: part.value for part in predict_parts(model, prepared.task, features, case.devices)}
    for one in features:
        (alone,) = predict_parts(model, prepared.task, [one], case.devices)
        if alone.value != together[one.example]:
            what = f"alone {brief(alone.value)}, among {len(features)} {brief(together[one.example])}"
            yield Breach(case.place("request"), f"a text changes with its batch: {what}", TEXT_CAUSE)
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
    if len(outputs) == sum(batch.position_counts):
        return [one.flatten().tolist() for one in torch.split(outputs, list(batch.position_counts))]
    if len(outputs) == len(batch):
        return [one.flatten().tolist() for one in outputs]
    return [None] * len(batch)  # nobody can tell which are whose
