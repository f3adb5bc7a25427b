"""What `auto` means for the trainer: sound settings by the backbone's size, by random, pretrained or frozen weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from vertebra.config.schema import AdapterConfig, RunConfig, TaskChoice, TrainerConfig
from vertebra.engine.backbone import BackboneInfo
from vertebra.host.manager import Host
from vertebra.host.refs import AdapterRef

ENOUGH_STEPS, MOST_EPOCHS = 200, 20.0
"""Few rows are seen more often, until there are so many steps: what is called unstable about fine-tuning on little data is
mostly too few steps (Mosbach, Andriushchenko and Klakow 2021, who take 20 epochs)."""

FOUND_WITH = 32
"""The rows a step with which the adapters' rates were found."""


def settle(
    config: TrainerConfig, backbone: BackboneInfo, examples: int | None, *, frozen: bool = False, factor: float = 1.0
) -> TrainerConfig:
    """Return the configuration with each `auto` replaced by a number, for so many training examples (None: running text).

    An adapter's rate is `factor` times the backbone's.
    """
    if frozen:
        # A head alone bears far larger steps than a backbone, and over cached hidden states an epoch costs little.
        rate, epochs, warmup = 1e-2 if backbone.init == "random" else 1e-3, 10.0, 0.1
    elif backbone.init == "random":
        rate, epochs, warmup = 5e-4, 5.0, 0.1
    else:
        # The larger the model, the smaller the rate that fine-tunes it without forgetting; a very small one has little to
        # forget and much to learn.
        millions = backbone.parameters / 1e6
        rate = 5e-4 if millions < 20 else 1e-4 if millions < 50 else 5e-5 if millions < 400 else 2e-5
        enough = 0 if examples is None else math.ceil(ENOUGH_STEPS * config.batch_size / max(1, examples))
        epochs, warmup = max(5.0 if millions < 20 else 3.0, min(float(enough), MOST_EPOCHS)), 0.06
    return replace(
        config,
        learning_rate=rate * factor if config.learning_rate == "auto" else config.learning_rate,
        epochs=epochs if config.epochs == "auto" else config.epochs,
        warmup=warmup if config.warmup == "auto" else config.warmup,
    )


def rate_factor(adapter: AdapterConfig, host: Host, rows: float) -> float:
    """Return what an adapter's rate is in terms of the whole backbone's, with so many rows a step.

    It is what the adapter's reference declares, at its settings. The gradient of few rows is noisy, and Adam's steps are as
    long: a rate above the backbone's own goes with the square root of the rows (Malladi and others, 2022) where these are
    fewer than those it was found with. More rows are not taken to bear a higher one.
    """
    ref = host.get("adapter", adapter.name)
    assert isinstance(ref, AdapterRef)
    of_rows = min(1.0, math.sqrt(rows / FOUND_WITH)) if ref.rate > 1 else 1.0
    return ref.rate * adapter.rate_scale * of_rows


def settled_rates(config: RunConfig, rows: Sequence[float], host: Host) -> tuple[TaskChoice, ...]:
    """Return the tasks with each `rate` a number where they have an adapter each; `rows` is what each has in a step.

    With the learning rate auto, one has the rate of a run of that task alone with as many rows a step.
    """
    if config.trainer.adapters != "each":
        return config.tasks
    by_rows = config.trainer.learning_rate == "auto"
    whole = rate_factor(config.adapter, host, config.trainer.batch_size)
    return tuple(
        replace(one, rate=rate_factor(config.adapter, host, own) / whole if by_rows else 1.0)
        if one.rate == "auto"
        else one
        for one, own in zip(config.tasks, rows, strict=True)
    )
