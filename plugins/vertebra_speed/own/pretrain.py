"""Vertebra's trainer as a run uses it, on windows of running text."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from vertebra.config.schema import BackboneConfig, GPUConfig
from vertebra.engine.loading import load_backbone
from vertebra.engine.model import TaskModel
from vertebra.host.manager import create_host
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.features import Features, Ids
from vertebra_speed.clock import Clock, peak_memory
from vertebra_speed.own.train import LIKE_HF, Stopwatch, fit
from vertebra_speed.windows import Windows


class NextTokens(CorpusTask):
    """The next token at every place."""

    name: ClassVar[str] = "next"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    def piece(self, ids: Ids, following: Ids, number: int) -> Features:
        """Return a document's tokens in a window, each with the one behind it as its target."""
        return Features(ids, target=following)


class VertebraPretraining:
    """Our trainer over one workload."""

    def __init__(self, folder: str, precision: str, threads: int, device: str, batch_size: int) -> None:
        self.windows = Windows.read(folder)
        self.gpu = GPUConfig(device=device, precision=precision, threads=threads)  # type: ignore[arg-type]
        self.batch_size = batch_size
        self.model = load_model(self.windows).to(device)
        self.examples = [self.windows.pieces(number) for number in range(len(self.windows.tokens_NW))]

    def train(self, steps: int, warmup: int, seed: int) -> dict[str, Any]:
        """Train `warmup` steps and then `steps` that count, from a new trainer and a new optimizer."""
        watch = Stopwatch(warmup, warmup + steps, Clock(self.gpu.device))
        config = replace(LIKE_HF, batch_size=self.batch_size, max_steps=warmup + steps)
        fit(self.model, NextTokens(), self.examples, self.gpu, config, seed, watch)
        gc.collect()
        return watch.turn

    def memory(self) -> dict[str, Any]:
        """Return the most memory held so far."""
        return peak_memory(self.gpu.device)


def load_model(windows: Windows) -> TaskModel:
    """Load the workload's language model."""
    config = BackboneConfig("hf", path=str(windows.model), attention="causal")
    backbone = load_backbone(config, create_host(), language_model=True)
    task = NextTokens()
    return TaskModel(backbone, {task.name: task.build_head_on(backbone)})


def as_trainer_sees(pieces: Sequence[Features]) -> Features:
    """Return a window of one document without its last target, which Trainer's shifted labels do not have."""
    [piece] = pieces
    return replace(piece, target=piece.target[:-1], positions=piece.positions[:-1])
