"""`Trainer.predict`, as the official scripts call it ("default"), and as well as its options allow ("best").

default: fp32, rows in their order, padded to the longest of their batch (run_glue.py: to 128 tokens).
best: rows sorted by length, no attention mask, and weights in bf16 (`bf16_full_eval`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainingArguments
from transformers.utils import logging

from vertebra.tasks.features import Features
from vertebra_speed.clock import Clock, peak_memory
from vertebra_speed.peers.trainer import load_model, make_collator, make_dataset, make_tokenizer
from vertebra_speed.workload import Workload

WARMUP = 32
"""Rows that are predicted before each turn."""


class EvaluationPeer:
    """`Trainer.predict` over one workload."""

    def __init__(self, folder: str, peer: str, threads: int, device: str, batch_size: int) -> None:
        logging.set_verbosity_error()
        torch.set_num_threads(threads)
        self.workload, self.best, self.device = Workload.read(folder), peer == "best", device
        self.tokenizer = make_tokenizer(self.workload, mask=not self.best)
        arguments = TrainingArguments(
            output_dir=str(self.workload.folder),
            per_device_eval_batch_size=batch_size,
            bf16_full_eval=self.best,
            use_cpu=device == "cpu",
            report_to="none",
            disable_tqdm=True,
        )
        self.trainer = Trainer(
            model=load_model(self.workload),
            args=arguments,
            data_collator=make_collator(self.workload, self.tokenizer, to_longest=self.best),
            processing_class=self.tokenizer,
        )

    def evaluate(self, rows: int, seed: int) -> dict[str, Any]:
        """Predict so many rows of the validation split."""
        features = self._ordered(rows)
        warmup, dataset = (
            make_dataset(some, self.tokenizer, pad=not self.best) for some in (features[:WARMUP], features)
        )
        self.trainer.predict(warmup)
        clock = Clock(self.device)
        self.trainer.predict(dataset)
        return clock.turn(sum(map(len, features)), 1)

    def labels(self, rows: int) -> dict[str, Any]:
        """Return the likeliest label of each word or text, in the split's order."""
        features = self._ordered(rows)
        outputs = self.trainer.predict(make_dataset(features, self.tokenizer, pad=not self.best)).predictions
        found = {one.example: likeliest(output, one) for one, output in zip(features, outputs, strict=True)}
        return {"labels": [label for example in sorted(found) for label in found[example]]}

    def memory(self) -> dict[str, Any]:
        """Return the most memory held so far."""
        return peak_memory(self.device)

    def _ordered(self, rows: int) -> list[Features]:
        features = self.workload.rows("valid", rows)
        return sorted(features, key=len, reverse=True) if self.best else features


def likeliest(output: np.ndarray[Any, Any], one: Features) -> list[int]:
    """Return the number of the greatest output, at each position that carries a label or for the whole text."""
    found: list[int] = np.atleast_1d((output[one.positions] if one.per_position else output).argmax(-1)).tolist()
    return found
