"""A trained run, loaded to predict."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, cast, get_args

from vertebra.config.document import from_document
from vertebra.config.schema import BackboneConfig, DataConfig, GPUConfig, RunConfig
from vertebra.data.encode import encode_shared, encode_split
from vertebra.data.load import Splits, load_splits
from vertebra.engine.adapters.adapter import adapt, leave_room
from vertebra.engine.backbone import Attention, Backbone, Direction
from vertebra.engine.checkpoints import is_whole
from vertebra.engine.devices import Devices, set_up
from vertebra.engine.evaluate import by_row, predict_parts, share
from vertebra.engine.loading import find_source, load_backbone
from vertebra.engine.model import TaskModel
from vertebra.engine.writer import Writer
from vertebra.errors import RunError
from vertebra.host.manager import Host, create_host
from vertebra.runs.corpora import read_corpora
from vertebra.runs.folder import RunFolder
from vertebra.runs.saved import load_adapter, load_heads
from vertebra.runs.task_folders import folder_of_task
from vertebra.runs.tasks import load_task
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.features import Features
from vertebra.tasks.generation import Generation
from vertebra.tasks.task import Row, Task

logger = logging.getLogger(__name__)

CHUNK = 256
"""Rows that are held at once when predictions are streamed."""


@dataclass(frozen=True)
class LoadedRun:
    """A run's task with its trained model; `vertebra.load` makes one."""

    folder: RunFolder
    """The run's folder, which also reads its files."""
    config: RunConfig
    """The run's settings, as they were settled."""
    task: Task
    """The task with what it learnt from the training rows."""
    model: TaskModel
    """The backbone and the task's head, trained."""
    devices: Devices
    """What is computed on."""

    def predict(self, inputs: Sequence[str | Row]) -> list[Any]:
        """Return one prediction for each text, or row with the columns that the task needs, in the task's own terms."""
        return [prediction for _, prediction in self.stream(inputs)]

    def stream(self, inputs: Iterable[str | Row]) -> Iterator[tuple[Row, Any]]:
        """Yield each row with its prediction, some rows at a time: memory does not grow with their number."""
        rows = (self._row(given, number) for number, given in enumerate(inputs, start=1))
        while chunk := list(islice(rows, CHUNK)):
            parts = list(predict_parts(self.model, self.task, self.encode(chunk), self.devices, writer=self._writer))
            for row, values in zip(chunk, by_row(chunk, parts), strict=True):
                yield row, self.task.combine(row, values)

    def read(self, data: DataConfig, host: Host) -> tuple[Splits, Callable[[str], Sequence[Features]]]:
        """Return the rows of a data set, and what gives the features of a split; training rows are not needed."""
        backbone = self.model.backbone
        if isinstance(self.task, CorpusTask):
            splits, encoded = read_corpora(
                self.task, data, backbone.tokenizer, backbone.info.context, host, for_training=False
            )
            return splits, lambda split: encoded[split].features
        splits = load_splits(data, self.task, host, for_training=False)
        self.encode_shared()  # the data may have brought other tables
        return splits, lambda split: self.encode(splits.rows[split], f"encoding {split}")

    def encode(self, rows: Sequence[Row], title: str = "encoding") -> Sequence[Features]:
        """Return the features of rows, cut to the context as in training."""
        return encode_split(
            self.task,
            rows,
            self.model.backbone.tokenizer,
            context=self.model.backbone.info.context,
            too_long=self.config.tasks[0].data.too_long,
            title=title,
        ).features

    def encode_shared(self) -> None:
        """Encode what rows share; needed again after the task got other tables."""
        backbone = self.model.backbone
        self.task.shared = encode_shared(self.task, backbone.tokenizer, context=backbone.info.context)

    @cached_property
    def _writer(self) -> Writer | None:
        """What writes the texts of a task that has some; the weights stay as they are."""
        return Writer(self.model.backbone, self.task, self.devices) if isinstance(self.task, Generation) else None

    def _row(self, given: str | Row, number: int) -> Row:
        row = self.task.row_from_text(given) if isinstance(given, str) else dict(given)
        missing = [name for name in self.task.needed_for_prediction() if name not in row]
        if missing:
            raise RunError(f"Row {number} lacks '{missing[0]}', which task '{self.task.name}' needs to predict.")
        return {"id": f"row-{number}", **row}


def load(run: Path | str, *, task: str | None = None, device: str = "auto", host: Host | None = None) -> LoadedRun:
    """Load the run in a folder; nothing in the folder is executed.

    `task` says which one, where the run has several. `device` is auto, cpu or cuda. Raises `RunError` for a folder that
    holds no trained run or a damaged one.
    """
    host = host or create_host()
    folder = RunFolder.open(folder_of_task(run, task))
    config = from_document(folder.read_config(), host)
    if not is_whole(folder.model):
        raise RunError(f"The model in '{folder.model}' is damaged: its files do not fit their hashes in manifest.json.")
    restored = restore_task(config, folder, host)
    _say_whether_the_backbone_has_changed(config.backbone, folder, host)
    backbone = adapt(load_base(folder, config, restored, host), config, host)
    load_adapter(folder, backbone)
    model = TaskModel(backbone, {restored.name: restored.build_head_on(backbone)})
    load_heads(folder, model)
    gpu = GPUConfig(device=device, precision=config.gpu.precision)  # type: ignore[arg-type]  # checked below
    devices = set_up(gpu)
    loaded = LoadedRun(folder, config, restored, model.to(devices.accelerator.device).eval(), devices)
    loaded.encode_shared()
    share(loaded.model, restored, devices)
    return loaded


def load_base(folder: RunFolder, config: RunConfig, task: Task, host: Host) -> Backbone:
    """Load the backbone that a run saved or, where it saved its adapter alone, the one that it began with."""
    base = replace(config.backbone, init="pretrained", attention=saved_attention(folder))
    if (saved := folder.model / "backbone").is_dir():
        base = replace(base, name="hf", path=str(saved), revision=None, config={}, gradient_checkpointing=False)
    # One of several tasks gets the backbone that they shared.
    language_model = task.needs_language_model or folder.read_state().get("language_model") is True
    backbone = load_backbone(base, host, prefer=task.attention, language_model=language_model)
    leave_room(backbone, config.adapter)
    return backbone


def restore_task(config: RunConfig, folder: RunFolder, host: Host) -> Task:
    """Make the task of a run with what it learnt; `RunError` where the folder does not hold that."""
    if len(config.tasks) != 1:
        raise RunError(
            f"The run in '{folder.path}' names {len(config.tasks)} tasks: give the folder of one, such as "
            f"'{folder.of_task(config.tasks[0].name).path}'."
        )
    task = load_task(config.tasks[0], host)
    try:
        task.restore(RunFolder(folder.model).read_json("tasks.json")[task.name])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"'{folder.model / 'tasks.json'}' does not hold what task '{task.name}' learnt: "
            "it is damaged, or of another version of the task."
        ) from error
    return task


def _say_whether_the_backbone_has_changed(config: BackboneConfig, folder: RunFolder, host: Host) -> None:
    """Warn of a run that began with another version of a backbone in the package: a new run would not be like it."""
    about = folder.read_state().get("backbone")
    if not isinstance(about, dict) or about.get("name") != config.name or config.name not in host.names("backbone"):
        return
    if config.path is not None or (now := find_source(config, host).version) is None:
        return
    then = about.get("version")
    if then != now:
        begun = f"version {then}" if isinstance(then, str) else "an earlier version"
        logger.warning(
            "The run in '%s' began with %s of '%s'; this one has %s. What was learnt is in the folder; a new run differs.",
            folder.path,
            begun,
            config.name,
            now,
        )


def saved_attention(folder: RunFolder) -> Attention:
    """Return how the run's backbone was trained to attend."""
    about = folder.read_state().get("backbone")
    found = about.get("attention") if isinstance(about, dict) else None
    directions = get_args(Direction)
    if isinstance(found, str) and found in directions:
        return cast(Attention, found)
    if isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found <= 1:
        return float(found)
    if isinstance(found, list) and found and all(isinstance(one, str) and one in directions for one in found):
        return tuple(found)
    raise RunError(f"'{folder.path / 'run.json'}' does not say how the backbone attends: it has {found!r}.")
