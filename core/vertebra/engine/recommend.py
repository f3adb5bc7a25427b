"""What `auto` means for the trainer: sound settings by the backbone's size, by random, pretrained or frozen weights."""

from __future__ import annotations

import math
from dataclasses import replace

from vertebra.config.schema import AdapterConfig, TrainerConfig
from vertebra.engine.backbone import BackboneInfo
from vertebra.host.manager import Host
from vertebra.host.refs import AdapterRef

ENOUGH_STEPS, MOST_EPOCHS = 200, 20.0
"""Few rows are seen more often, until there are so many steps: what is called unstable about fine-tuning on little data is
mostly too few steps (Mosbach, Andriushchenko and Klakow 2021, who take 20 epochs)."""


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


def rate_factor(adapter: AdapterConfig, host: Host) -> float:
    """Return what an adapter's rate is in terms of the whole backbone's: what its reference declares, at its settings."""
    ref = host.get("adapter", adapter.name)
    assert isinstance(ref, AdapterRef)
    return ref.rate * adapter.rate_scale
