"""Hugging Face Trainer, set up as run_ner.py and run_glue.py do ("default"), and as well as its options allow ("best").

default: fp32, batches padded to their longest row (run_glue.py: every row to 128 tokens), in random order.
best: bf16, batches of like lengths, padded to their longest row, and no attention mask, which rows padded on the right need
not have under causal attention.
"""

from __future__ import annotations

import gc
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from torch.utils.data import RandomSampler
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.utils import logging

from vertebra.tasks.features import Features
from vertebra_speed.clock import Clock, peak_memory
from vertebra_speed.workload import Workload

GLUE_LENGTH = 128
"""run_glue.py's max_seq_length, to which it pads by default."""
SORTED_TOGETHER = 50
"""Batches that `LengthGroupedSampler` sorts at a time."""
IGNORED = -100


class TrainerPeer:
    """Trainer over one workload."""

    def __init__(
        self, folder: str, peer: str, threads: int, device: str, batch_size: int, frozen: bool = False
    ) -> None:
        logging.set_verbosity_error()
        torch.set_num_threads(threads)
        self.workload, self.best = Workload.read(folder), peer == "best"
        self.device, self.batch_size = device, batch_size
        self.tokenizer = make_tokenizer(self.workload, mask=not self.best)
        self.model = load_model(self.workload)
        self.model.base_model.requires_grad_(not frozen)
        self.collator = make_collator(self.workload, self.tokenizer, to_longest=self.best)

    def train(self, steps: int, warmup: int, seed: int) -> dict[str, Any]:
        """Train `warmup` steps and then `steps` that count, from a new Trainer and a new optimizer."""
        batches = self.pick_batches(steps, warmup, seed)
        features = self.workload.features["train"]
        tokens = sum(len(features[place]) for batch in batches[warmup:] for place in batch)
        watch = Stopwatch(warmup, steps, tokens, Clock(self.device))
        trainer = Trainer(
            model=self.model,
            args=self.arguments(
                per_device_train_batch_size=self.batch_size,
                max_steps=warmup + steps,
                train_sampling_strategy="sequential",  # of batches that are already chosen
                seed=seed,
            ),
            train_dataset=make_dataset(
                [features[place] for batch in batches for place in batch], self.tokenizer, pad=not self.best
            ),
            data_collator=self.collator,
            processing_class=self.tokenizer,
            callbacks=[watch],
        )
        trainer.train()
        del trainer
        gc.collect()
        return watch.turn

    def probe(self, steps: int, warmup: int, seed: int, **_: Any) -> dict[str, Any]:
        """Train as `train` does; the model was frozen when it was made."""
        return self.train(steps, warmup, seed)

    def pick_batches(self, steps: int, warmup: int, seed: int) -> list[list[int]]:
        """Return batches from an epoch as Trainer's own sampler orders it: of the first 50, an even sample by length.

        That sampler sorts 50 batches at a time, so the first steps of an epoch are its longest; few steps from there
        would not stand for the epoch. The longest batches are the warm-up.
        """
        lengths = [len(one) for one in self.workload.features["train"]]
        generator = torch.Generator().manual_seed(seed)
        order = (
            LengthGroupedSampler(self.batch_size, lengths=lengths, generator=generator)
            if self.best
            else RandomSampler(lengths, generator=generator)
        )
        places = list(order)
        whole = max(1, len(places) // self.batch_size)
        batches = [places[number * self.batch_size : (number + 1) * self.batch_size] for number in range(whole)]
        window = batches[: -(-steps // SORTED_TOGETHER) * SORTED_TOGETHER]
        window.sort(key=lambda batch: max(lengths[place] for place in batch), reverse=True)
        picked = [window[int((number + 0.5) * len(window) / steps)] for number in range(steps)]
        mixed = [picked[number] for number in torch.randperm(steps, generator=generator).tolist()]
        return window[:warmup] + mixed

    def arguments(self, **settings: Any) -> TrainingArguments:
        """Return the arguments of a run that neither saves nor reports; all else is Trainer's own default."""
        return TrainingArguments(
            output_dir=str(self.workload.folder),
            bf16=self.best,
            use_cpu=self.device == "cpu",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **settings,
        )

    def memory(self) -> dict[str, Any]:
        """Return the most memory held so far."""
        return peak_memory(self.device)


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """Times the steps after the warm-up; a step is from the end of one to the end of the next, collation included."""

    def __init__(self, warmup: int, steps: int, tokens: int, clock: Clock) -> None:
        self.warmup, self.steps, self.tokens, self.clock = warmup, steps, tokens, clock
        self.turn: dict[str, Any] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start behind the warm-up, stop behind the last step."""
        if state.global_step == self.warmup:
            self.clock.restart()
        if state.global_step == self.warmup + self.steps:
            self.turn = self.clock.turn(self.tokens, self.steps)


def load_model(workload: Workload, changes: dict[str, Any] | None = None) -> PreTrainedModel:
    """Load the model with the head that the official script takes; `changes` are of its configuration."""
    task = workload.task
    auto = AutoModelForTokenClassification if task.name == "words" else AutoModelForSequenceClassification
    pad = workload.tokenizer().pad_token_id
    model = auto.from_pretrained(
        workload.model,
        num_labels=len(task.state()["labels"]),
        pad_token_id=pad,
        dtype=torch.float32,
        **(changes or {}),
    )
    workload.give_head(head_of(model))
    return model


def head_of(model: PreTrainedModel) -> nn.Linear:
    """Return the last layer of a transformers model with a head: `classifier` or `score`."""
    head = getattr(model, "classifier", None) or model.score
    assert isinstance(head, nn.Linear)
    return head


def make_tokenizer(workload: Workload, *, mask: bool) -> PreTrainedTokenizerBase:
    """Return the tokenizer, by which Trainer's collators know whether to make an attention mask."""
    tokenizer = workload.tokenizer()
    if not mask:
        tokenizer.model_input_names = ["input_ids"]
    return tokenizer


def make_dataset(features: list[Features], tokenizer: PreTrainedTokenizerBase, *, pad: bool) -> Dataset:
    """Return the columns that the official scripts make of these rows; run_glue.py pads each (`pad`)."""
    return Dataset.from_list([columns(one, tokenizer, pad=pad) for one in features])


def make_collator(workload: Workload, tokenizer: PreTrainedTokenizerBase, *, to_longest: bool) -> Any:
    """Return the collator that the official script takes; run_glue.py's rows are padded before, unless `to_longest`."""
    if workload.task.name == "words":
        return DataCollatorForTokenClassification(tokenizer)
    return DataCollatorWithPadding(tokenizer) if to_longest else default_data_collator


def columns(one: Features, tokenizer: PreTrainedTokenizerBase, *, pad: bool) -> dict[str, Any]:
    """Return a row as the official scripts prepare it: labels on the tokens that carry one, or one for the text."""
    ids = one.input_ids.tolist()
    if one.per_position:
        labels = [IGNORED] * len(ids)
        for place, label in zip(one.positions.tolist(), one.target, strict=True):
            labels[place] = label
        row: dict[str, Any] = {"input_ids": ids, "labels": labels}
    else:
        padding = GLUE_LENGTH - len(ids) if pad else 0
        row = {"input_ids": ids + [tokenizer.pad_token_id] * padding, "label": one.target}
    if "attention_mask" in tokenizer.model_input_names:
        row["attention_mask"] = [1] * len(ids) + [0] * (len(row["input_ids"]) - len(ids))
    return row
