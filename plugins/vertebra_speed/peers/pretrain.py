"""Hugging Face Trainer, set up as run_clm.py does ("default"), and as well as its options allow ("best").

default: fp32, blocks of one length cut from documents that stand one behind the other, with an attention mask of ones.
best: bf16, no mask, and a step's gradients added up from passes of single blocks, whose logits then stay near the caches.
"""

from __future__ import annotations

import gc
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedModel, Trainer, TrainingArguments, default_data_collator
from transformers.utils import logging

from vertebra_speed.clock import Clock, peak_memory
from vertebra_speed.peers.trainer import Stopwatch
from vertebra_speed.windows import Windows

PASS = 1
"""Blocks of a pass in the best setting on a CPU, the fastest of 1, 2, 4, 8 and 16 for a 6x256 model."""


class PretrainingPeer:
    """Trainer over one workload."""

    def __init__(self, folder: str, peer: str, threads: int, device: str, batch_size: int) -> None:
        logging.set_verbosity_error()
        torch.set_num_threads(threads)
        self.windows, self.best = Windows.read(folder), peer == "best"
        self.device, self.batch_size = device, batch_size
        self.at_once = min(PASS, batch_size) if self.best and device == "cpu" else batch_size
        self.model = load_model(self.windows)

    def train(self, steps: int, warmup: int, seed: int) -> dict[str, Any]:
        """Train `warmup` steps and then `steps` that count, from a new Trainer and a new optimizer."""
        blocks = self.windows.tokens_NW[:, :-1]
        tokens = steps * (self.batch_size // self.at_once) * self.at_once * blocks.shape[1]
        watch = Stopwatch(warmup, steps, tokens, Clock(self.device))
        trainer = Trainer(
            model=self.model,
            args=TrainingArguments(
                output_dir=str(self.windows.folder),
                bf16=self.best,
                use_cpu=self.device == "cpu",
                per_device_train_batch_size=self.at_once,
                gradient_accumulation_steps=self.batch_size // self.at_once,
                max_steps=warmup + steps,
                dataloader_drop_last=True,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=seed,
            ),
            train_dataset=Dataset.from_list([self.columns(block) for block in blocks.tolist()]),
            data_collator=default_data_collator,
            callbacks=[watch],
        )
        trainer.train()
        del trainer
        gc.collect()
        return watch.turn

    def columns(self, block: list[int]) -> dict[str, list[int]]:
        """Return a block as run_clm.py's `group_texts` does; transformers shifts the labels itself."""
        mask = {} if self.best else {"attention_mask": [1] * len(block)}
        return {"input_ids": block, **mask, "labels": block}

    def memory(self) -> dict[str, Any]:
        """Return the most memory held so far."""
        return peak_memory(self.device)


def load_model(windows: Windows) -> PreTrainedModel:
    """Load the workload's language model."""
    return AutoModelForCausalLM.from_pretrained(windows.model, dtype=torch.float32)
