"""Vertebra's frozen backbone as a run uses it: hidden states once, then all heads in one pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from vertebra.config.schema import GPUConfig
from vertebra.engine.devices import set_up
from vertebra.engine.frozen import FrozenReader
from vertebra.engine.heads import HeadSettings, train_heads
from vertebra.engine.hidden_cache import HiddenCache
from vertebra.host.manager import create_host
from vertebra_speed.clock import Clock, peak_memory
from vertebra_speed.own.train import LIKE_HF, load_model
from vertebra_speed.workload import Workload

RATES = (1e-4, 1e-2)
"""The lowest and the highest learning rate of several heads."""


class VertebraProbe:
    """Our heads over one workload."""

    def __init__(self, folder: str, precision: str, threads: int, device: str, batch_size: int, heads: int) -> None:
        self.workload, self.device, self.host = Workload.read(folder), device, create_host()
        self.devices = set_up(GPUConfig(device=device, precision=precision, threads=threads))  # type: ignore[arg-type]
        self.backbone = load_model(self.workload).to(device).backbone.requires_grad_(False)
        self.rates = np.geomspace(*RATES, heads).tolist()
        self.batch_size = batch_size

    def probe(self, rows: int, epochs: int, seed: int, **_: Any) -> dict[str, Any]:
        """Train all heads on so many rows of the training split, from its tokens on."""
        features = self.workload.rows("train", rows)
        trainer = replace(LIKE_HF, batch_size=self.batch_size, epochs=float(epochs))
        settings = [HeadSettings(replace(trainer, learning_rate=rate), seed=seed) for rate in self.rates]
        with TemporaryDirectory(dir=self.workload.folder) as cache:
            clock = Clock(self.device)
            read = FrozenReader(self.backbone, self.devices, HiddenCache(Path(cache))).read(features, "reading")
            train_heads(self.workload.task, [[one] for one in read], settings, self.devices, self.host)
            return clock.turn(sum(map(len, features)) * epochs * len(settings), 1)

    def memory(self) -> dict[str, Any]:
        """Return the most memory held so far."""
        return peak_memory(self.device)
