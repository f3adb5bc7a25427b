"""What a run works on: its rows, its features, its backbone and its model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from vertebra.config.schema import RunConfig, TaskChoice
from vertebra.data.cache import Encoded, FeatureCache
from vertebra.data.encode import encode_shared, encode_split
from vertebra.data.keys import hashed
from vertebra.data.load import Splits, load_splits
from vertebra.data.splits import TRAIN
from vertebra.engine.adapters.adapter import adapt, leave_room
from vertebra.engine.adapters.each import adapt_each
from vertebra.engine.backbone import Backbone
from vertebra.engine.checkpoints import file_hash
from vertebra.engine.devices import Devices
from vertebra.engine.evaluate import Evaluation, evaluate
from vertebra.engine.frozen import FrozenReader
from vertebra.engine.hidden_cache import HiddenCache
from vertebra.engine.loading import initialisation, load_backbone, refuse_bidirectional
from vertebra.engine.members import LOSS
from vertebra.engine.model import TaskModel
from vertebra.engine.task_weights import UncertaintyWeighting
from vertebra.errors import ConfigError, RunError
from vertebra.host.manager import Host
from vertebra.metrics.metric import Metric
from vertebra.runs.corpora import read_corpora
from vertebra.runs.data_notes import data_notes
from vertebra.runs.load import Saved, open_saved
from vertebra.runs.saved import load_heads
from vertebra.runs.shared import Shared
from vertebra.runs.tasks import load_metrics, load_task
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.features import Features
from vertebra.tasks.generation import Generation
from vertebra.tasks.task import Task


@dataclass(frozen=True)
class Prepared:
    """One task, ready to be trained and evaluated."""

    choice: TaskChoice
    task: Task
    metrics: tuple[Metric, ...]
    splits: Splits
    encoded: dict[str, Encoded]
    head: str | None = None
    """A hash of the head that the task began with, where an earlier run trained it."""

    @cached_property
    def notes(self) -> list[str]:
        """What a reader of the results must know of the task's data."""
        return data_notes(self.task, self.splits.notes, self.splits.rows, self.encoded)

    def evaluate(self, split: str, model: TaskModel, devices: Devices, *, while_training: bool = False) -> Evaluation:
        """Evaluate a split; on validation the task chooses what it predicts with, `while_training` which rows it predicts."""
        rows, features = self.splits.rows[split], self.encoded[split].features
        chosen = self.task.predicted_while_training(len(rows)) if while_training else None
        only = None if chosen is None or len(chosen) == len(rows) else chosen
        calibrate = split == "valid"
        return evaluate(model, self.task, split, rows, features, self.metrics, devices, calibrate=calibrate, only=only)

    def by_example(self, split: str) -> Sequence[Sequence[Features]]:
        """Return the features of each row of a split."""
        if (examples := self.encoded[split].examples) is not None:
            return examples
        rows: list[list[Features]] = [[] for _ in self.splits.rows[split]]
        for one in self.encoded[split].features:
            rows[one.example].append(one)
        return rows


def prepare(
    config: RunConfig, devices: Devices, host: Host, shared: Shared | None = None
) -> tuple[Prepared, TaskModel]:
    """Do what `prepare_tasks` does for a run of one task."""
    (prepared,), model = prepare_tasks(config, devices, host, shared)
    return prepared, model


def prepare_tasks(
    config: RunConfig, devices: Devices, host: Host, shared: Shared | None = None
) -> tuple[list[Prepared], TaskModel]:
    """Load the data of all tasks and their one backbone, encode, and build the model; a frozen backbone reads all, once.

    What other runs of this process have loaded already comes from `shared`.
    """
    shared = shared or Shared(keep=0)
    tasks = [load_task(choice, host) for choice in config.tasks]
    for choice, task in zip(config.tasks, tasks, strict=True):
        refuse_what_cannot_write(task, choice, config)
    earlier = earlier_heads(config.tasks, host)
    # Rows come before the backbone: what is wrong with them is found in less time.
    found = [
        (task, None) if isinstance(task, CorpusTask) else find_rows(choice, task, host, shared, earlier.get(task.name))
        for choice, task in zip(config.tasks, tasks, strict=True)
    ]
    # Only now: a metric that looks into its task must look into the one that knows the rows.
    metrics = [load_metrics(task, host, config.trainer.more_metrics) for task, _ in found]
    backbone = find_backbone(config, tasks, host, shared)
    parts = []
    for choice, measured, (task, splits) in zip(config.tasks, metrics, found, strict=True):
        if splits is None:
            assert isinstance(task, CorpusTask)
            splits, encoded = read_corpora(task, choice.data, backbone.tokenizer, backbone.info.context, host)
        else:
            encoded = find_features(task, choice, splits, backbone, shared)
        head = fingerprint_of(earlier[task.name]) if task.name in earlier else None
        parts.append(Prepared(choice, task, measured, splits, encoded, head))
    built = build_model(backbone, [part.task for part in parts], config, host)
    for name, saved in earlier.items():
        begin_with_head(saved, name, built)
    model = place(built, devices)
    if config.backbone.freeze:
        parts = [replace(part, encoded=find_readings(model.backbone, part, config, devices, shared)) for part in parts]
    return parts, model


def earlier_heads(choices: Sequence[TaskChoice], host: Host) -> dict[str, Saved]:
    """Return by task the earlier runs whose heads a run begins with; `RunError` where one is damaged."""
    return {one.name: open_saved(one.head_from, host, task=one.name) for one in choices if one.head_from is not None}


def fingerprint_of(earlier: Saved) -> str:
    """Return a hash of an earlier run's head, with what its task had learnt from rows."""
    return hashed([earlier.task.state(), file_hash(earlier.folder.model / "heads.safetensors")])


def begin_with_head(earlier: Saved, task: str, model: TaskModel) -> None:
    """Put an earlier run's head into a model; `RunError` where it does not fit the backbone, or learnt to read another one."""
    attention, wanted = model.backbone.info.attention, earlier.base.attention
    if attention != wanted:
        raise RunError(
            f"{task}.head_from: the head in '{earlier.folder.path}' reads a backbone with attention={wanted}, and this one has "
            f"{attention}. Set backbone.attention={wanted}."
        )
    load_heads(earlier.folder, TaskModel(model.backbone, {task: model.heads[task]}))


def find_rows(
    choice: TaskChoice, task: Task, host: Host, shared: Shared, earlier: Saved | None = None
) -> tuple[Task, Splits]:
    """Return the rows of a task, and the task fitted to them, or to those of the `earlier` run whose head it begins with."""

    def load() -> tuple[Task, Splits]:
        splits = load_splits(choice.data, task, host)
        task.fit(splits.rows["train"])
        if earlier is not None:
            task.restore(earlier.task.state())
        return task, splits

    return shared.get("rows", choice, load, own=lambda found: (copy.deepcopy(found[0]), found[1]))


def find_backbone(config: RunConfig, tasks: Sequence[Task], host: Host, shared: Shared) -> Backbone:
    """Return a backbone that the run may change. Random weights are a function of the seed, others are those of all runs."""
    seed = config.seed if initialisation(config.backbone, host) == "random" else 0
    prefer = tasks[0].attention if len({task.attention for task in tasks}) == 1 else "causal"
    language_model = any(task.needs_language_model for task in tasks)

    def load() -> Backbone:
        return load_backbone(config.backbone, host, prefer=prefer, seed=seed, language_model=language_model)

    def own(pristine: Backbone) -> Backbone:
        return copy.deepcopy(pristine, {id(pristine.tokenizer): pristine.tokenizer})

    backbone = shared.get("backbone", [config.backbone, seed, prefer, language_model], load, own)
    leave_room(backbone, config.adapter)
    return backbone


def find_features(
    task: Task, choice: TaskChoice, splits: Splits, backbone: Backbone, shared: Shared
) -> dict[str, Encoded]:
    """Return the features of every split; the task gets those that its rows share."""
    made_from = [choice, backbone.info.fingerprint, backbone.info.context]
    encoded, task.shared = shared.get(
        "features", made_from, lambda: (encode(task, choice, splits, backbone), task.shared)
    )
    return encoded


def find_readings(
    backbone: Backbone, prepared: Prepared, config: RunConfig, devices: Devices, shared: Shared
) -> dict[str, Encoded]:
    """Return the features of every split with what the frozen backbone makes of them; the task gets those that rows share."""
    task, choice = prepared.task, prepared.choice
    seed = config.seed if backbone.info.init == "random" else 0
    encoded, task.shared = shared.get(
        "readings",
        [choice, config.backbone, seed, backbone.info.attention, devices.config],
        lambda: (read_once(backbone, prepared, devices), task.shared),
    )
    return encoded


def refuse_what_cannot_write(task: Task, choice: TaskChoice, config: RunConfig) -> None:
    """Raise `BackboneError` or `ConfigError` for settings under which a task cannot write its texts, or choose by them."""
    if not isinstance(task, Generation):
        return
    refuse_bidirectional(config.backbone)
    if choice.data.too_long == "window":
        raise ConfigError(
            f"data.too_long=window cuts rows into windows, and task '{task.name}' writes one text for a row. Use truncate, "
            "which cuts the end of what is read, or error."
        )
    if not task.predicted_while_training(1) and config.trainer.metric != LOSS:
        raise ConfigError(
            "task.texts_while_training=0 leaves no score to choose the best checkpoint by: set trainer.metric=loss."
        )


def encode(task: Task, choice: TaskChoice, splits: Splits, backbone: Backbone) -> dict[str, Encoded]:
    """Encode every split for the backbone, and what rows share."""
    task.shared = encode_shared(task, backbone.tokenizer, context=backbone.info.context)
    return {
        split: encode_split(
            task,
            rows,
            backbone.tokenizer,
            context=backbone.info.context,
            too_long=choice.data.too_long,
            cache=FeatureCache() if choice.data.cache else None,
            title=f"encoding {split}",
        )
        for split, rows in splits.rows.items()
    }


def read_once(backbone: Backbone, prepared: Prepared, devices: Devices) -> dict[str, Encoded]:
    """Give the features of every split, and those that rows share, what the frozen backbone makes of them.

    Whatever scores depend on is read as evaluation reads it, so that a loaded run predicts what was scored. The windows of
    a training corpus are read in the steps: they may be too many to keep, and masks are drawn anew.
    """
    reader = FrozenReader(backbone, devices, HiddenCache() if prepared.choice.data.cache else None)
    if prepared.task.shared:
        prepared.task.shared = reader.read(prepared.task.shared, "reading what rows share", for_evaluation=True)
    in_steps = {TRAIN} if isinstance(prepared.task, CorpusTask) else set()
    read = {
        split: replace(
            encoded, features=reader.read(encoded.features, f"reading {split}", for_evaluation=split != TRAIN)
        )
        for split, encoded in prepared.encoded.items()
        if split not in in_steps
    }
    return prepared.encoded | read


def place(model: TaskModel, devices: Devices) -> TaskModel:
    """Return the model on its device: all of it, or this process's part."""
    if not devices.sharded:
        return model.to(devices.accelerator.device)
    from vertebra.engine.sharding import shard  # it takes two seconds to import

    shard(model, devices)
    return model


def build_model(backbone: Backbone, tasks: Sequence[Task], config: RunConfig, host: Host) -> TaskModel:
    """Put the configured adapter, or one for each task, and heads on the backbone; all of them are functions of the seed."""
    each: dict[str, Backbone] = {}
    if config.trainer.adapters == "each" and len(tasks) > 1:
        each = adapt_each(backbone, [task.name for task in tasks], config, host)
    else:
        backbone = adapt(backbone, config, host)
    heads = {}
    for task in tasks:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)  # so that a head begins as in a run of its task alone
            heads[task.name] = task.build_head_on(each.get(task.name, backbone))
    learns = config.trainer.weighting == "uncertainty" and len(tasks) > 1
    return TaskModel(backbone, heads, UncertaintyWeighting(len(tasks)) if learns else None, each)
