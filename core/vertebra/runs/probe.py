"""Linear probing: several heads, each with its own settings, on one frozen backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vertebra.config.schema import AdapterConfig, RunConfig
from vertebra.engine.devices import set_up
from vertebra.engine.heads import HeadSettings, TrainedHead, refuse_wrong, train_heads
from vertebra.engine.model import TaskModel
from vertebra.engine.recommend import settle
from vertebra.errors import RunError
from vertebra.host.manager import Host, create_host
from vertebra.runs.prepare import prepare


@dataclass(frozen=True)
class ScoredHead:
    """A trained head with its scores."""

    trained: TrainedHead
    """The head, its settings and its losses."""
    scores: dict[str, dict[str, float]]
    """The metrics of validation and test, as fractions."""


def probe(config: RunConfig, settings: Sequence[HeadSettings], host: Host | None = None) -> list[ScoredHead]:
    """Train a head for each of the settings on the task, data and frozen backbone of `config`; return them in that order.

    `config.trainer` and `config.adapter` have no effect: each of the settings has its own trainer. The backbone reads the
    data once, and not at all where its hidden states are in the cache; the heads are trained side by side, as
    `train_heads` says. Raises `VertebraError` for what a user can mend.
    """
    host = host or create_host()
    if len(config.tasks) != 1:
        raise RunError(f"Heads are trained for one task, and {len(config.tasks)} were given.")
    refuse_wrong(settings)
    devices = set_up(config.gpu)
    frozen = replace(config, backbone=replace(config.backbone, freeze=True), adapter=AdapterConfig())
    prepared, model = prepare(frozen, devices, host)
    examples = prepared.by_example("train")
    settled = [
        replace(one, trainer=settle(one.trainer, model.backbone.info, len(examples), frozen=True)) for one in settings
    ]
    heads = train_heads(prepared.task, examples, settled, devices, host)

    def score(one: TrainedHead) -> ScoredHead:
        with_head = TaskModel(model.backbone, {prepared.task.name: one.head})
        splits = [split for split in ("valid", "test") if split in prepared.splits.rows]
        return ScoredHead(one, {split: prepared.evaluate(split, with_head, devices).scores for split in splits})

    return [score(one) for one in heads]
