"""A trained run, loaded to predict."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from vertebra.config.after_training import with_settings
from vertebra.config.document import from_document
from vertebra.config.schema import BackboneConfig, DataConfig, GPUConfig, RunConfig
from vertebra.data.cache import Encoded
from vertebra.data.encode import encode_shared, encode_split
from vertebra.data.inputs import checked
from vertebra.data.load import Splits, load_splits
from vertebra.engine.adapters.adapter import adapt, leave_room
from vertebra.engine.adapters.views import own_what_is_trained
from vertebra.engine.backbone import Backbone
from vertebra.engine.devices import Devices, set_up
from vertebra.engine.directions import Attention, attention_in
from vertebra.engine.evaluate import by_row, predict_parts, share
from vertebra.engine.loading import find_source, load_backbone
from vertebra.engine.model import TaskModel
from vertebra.engine.writer import Writer
from vertebra.errors import DataError, RunError
from vertebra.host.manager import Host, create_host
from vertebra.runs.bundle_folder import BundleFolder, open_trained
from vertebra.runs.corpora import read_corpora
from vertebra.runs.folder import RunFolder
from vertebra.runs.saved import (
    load_adapter,
    load_heads,
    refuse_damaged_model,
    refuse_other_backbone,
    refuse_other_output,
)
from vertebra.runs.tasks import load_task
from vertebra.tasks.corpus_task import CorpusTask
from vertebra.tasks.features import Features
from vertebra.tasks.generation import Generation
from vertebra.tasks.task import Row, Task

if TYPE_CHECKING:
    from vertebra.runs.loaded_tasks import LoadedTasks

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
        rows = (self.make_row(given, number) for number, given in enumerate(inputs, start=1))
        first = 0
        while chunk := list(islice(rows, CHUNK)):
            features = self.encode(chunk, first=first)
            parts = list(predict_parts(self.model, self.task, features, self.devices, writer=self.writer))
            for row, values in zip(chunk, by_row(chunk, parts, first), strict=True):
                yield row, self.task.combine(row, values)
            first += len(chunk)

    def read(self, data: DataConfig, host: Host) -> tuple[Splits, Callable[[str], Encoded]]:
        """Return the rows of a data set, and what encodes a split of them; training rows are not needed."""
        backbone = self.model.backbone
        if isinstance(self.task, CorpusTask):
            splits, encoded = read_corpora(
                self.task, data, backbone.tokenizer, backbone.info.context, host, for_training=False
            )
            return splits, lambda split: encoded[split]
        splits = load_splits(data, self.task, host, for_training=False)
        self.encode_shared()  # the data may have brought other tables
        return splits, lambda split: self._encoded(splits.rows[split], f"encoding {split}")

    def encode(self, rows: Sequence[Row], title: str = "encoding", *, first: int = 0) -> Sequence[Features]:
        """Return the features of rows, cut to the context as in training; `first` is the number of the first row.

        What is drawn for a row, such as a sampled text, is a function of its number.
        """
        features = self._encoded(rows, title).features
        return [replace(one, example=first + one.example) for one in features] if first else features

    def _encoded(self, rows: Sequence[Row], title: str) -> Encoded:
        backbone = self.model.backbone
        too_long = self.config.tasks[0].data.too_long
        return encode_split(
            self.task, rows, backbone.tokenizer, context=backbone.info.context, too_long=too_long, title=title
        )

    def encode_shared(self) -> None:
        """Encode what rows share; needed again after the task got other tables."""
        backbone = self.model.backbone
        self.task.shared = encode_shared(self.task, backbone.tokenizer, context=backbone.info.context)

    @cached_property
    def writer(self) -> Writer | None:
        """What writes the texts of a task that has some; the weights stay as they are."""
        return Writer(self.model.backbone, self.task, self.devices) if isinstance(self.task, Generation) else None

    def make_row(self, given: str | Row, number: int) -> Row:
        """Return the row of a text or of what a user gave as a row, the `number`th.

        Raises `RunError` where a column is missing, and `DataError` where its values are not what the task declares, or
        nothing that it can use.
        """
        if not isinstance(given, str | Mapping):
            raise DataError(f"Row {number} must be a text, or a mapping of columns to values, not {given!r:.60}.")
        row = self.task.row_from_text(given) if isinstance(given, str) else dict(given)
        missing = [name for name in self.task.needed_for_prediction() if name not in row]
        if missing:
            raise RunError(f"Row {number} lacks '{missing[0]}', which task '{self.task.name}' needs to predict.")
        try:
            return {"id": f"row-{number}", **checked(row, self.task)}
        except DataError as error:
            raise DataError(f"Row {number}: {error}") from None


@overload
def load(
    run: Path | str,
    /,
    *,
    task: str | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    backbone: Path | str | None = None,
    host: Host | None = None,
) -> LoadedRun: ...


@overload
def load(
    run: Path | str,
    second: Path | str,
    /,
    *more: Path | str,
    device: str = "auto",
    backbone: Path | str | None = None,
    host: Host | None = None,
) -> LoadedTasks: ...


@overload
def load(
    run: list[Path | str] | list[Path] | list[str] | Mapping[str, Path | str],
    /,
    *,
    device: str = "auto",
    backbone: Path | str | None = None,
    host: Host | None = None,
) -> LoadedTasks: ...


def load(
    run: Path | str | list[Path | str] | list[Path] | list[str] | Mapping[str, Path | str],
    /,
    *more: Path | str,
    task: str | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    backbone: Path | str | None = None,
    host: Host | None = None,
) -> LoadedRun | LoadedTasks:
    """Load the run or the bundle in a folder; nothing in the folder is executed.

    `task` says which one, where it is a run of several. `settings` gives other values to settings of that task that nothing
    was learnt by, such as `{"temperature": 0.8}` for one that writes. Several folders, a list of them, or a mapping from
    names that you choose, give one object with one backbone in memory (`LoadedTasks`). `device` is auto, cpu or cuda.
    `backbone` says where the backbone is, a folder or a Hub name, where it is not where it was in training. Raises
    `RunError` for a folder that holds no trained run or a damaged one, for a backbone that it was not trained on, and for
    runs that have no backbone in common; `ConfigError` for settings that cannot be changed, or not to that.
    """
    host = host or create_host()
    if isinstance(run, str | Path) and not more:
        saved = open_saved(run, host, backbone, task, settings)
        return load_saved(saved, set_up(gpu_config(saved, device)), host)
    if task is not None:
        raise RunError(
            f"task={task!r} names one of a run of several tasks: give that run alone, or of each task the folder in it "
            "(RUN/tasks/NAME)."
        )
    if settings:
        raise RunError(f"The settings {', '.join(settings)} are of one task: load its run alone to change them.")
    from vertebra.runs.loaded_tasks import load_tasks

    if isinstance(run, Mapping):
        return load_tasks({name: open_saved(one, host, backbone) for name, one in run.items()}, device, host)
    first = [run] if isinstance(run, str | Path) else list(run)
    return load_tasks([open_saved(one, host, backbone) for one in (*first, *more)], device, host)


@dataclass(frozen=True)
class Saved:
    """A trained task on disk, whose files are whole."""

    folder: RunFolder
    config: RunConfig
    task: Task
    base: BackboneConfig
    """Where its backbone is, and how it attends."""
    own_backbone: bool
    """Whether that is the one saved with it."""

    @property
    def language_model(self) -> bool:
        """Whether its backbone has the language-model head: its own task writes texts, or one that it was trained with.

        What an adapter learnt is named by it.
        """
        return self.task.needs_language_model or self.folder.read_state().get("language_model") is True


def open_saved(
    path: Path | str,
    host: Host,
    backbone: Path | str | None = None,
    task: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Saved:
    """Open a run, `task` of a run of several, or a bundle, with its backbone elsewhere than it says, where that is given.

    `settings` are changed settings of the task.
    """
    folder = open_trained(path, task)
    if isinstance(folder, BundleFolder):
        folder.require_whole()
    else:
        refuse_damaged_model(folder)
    config = from_document(folder.read_config(), host)
    own_backbone = (folder.model / "backbone").is_dir() and backbone is None
    base = replace(config.backbone, init="pretrained", attention=saved_attention(folder))
    if own_backbone:
        saved = str(folder.model / "backbone")
        base = replace(base, name="hf", path=saved, revision=None, config={}, gradient_checkpointing=False)
    elif backbone is not None:
        known = str(backbone) in host.names("backbone") and not Path(backbone).is_dir()
        name, place = (str(backbone), None) if known else ("hf", str(backbone))
        base = replace(base, name=name, path=place, revision=None)
    refuse_several_tasks(config, folder)
    if settings:
        config = with_settings(config, settings)
    return Saved(folder, config, restore_task(config, folder, host), base, own_backbone)


def load_saved(saved: Saved, devices: Devices, host: Host) -> LoadedRun:
    """Load a trained task with its backbone, on devices that are set up."""
    task = saved.task
    _say_whether_the_backbone_has_changed(saved.config.backbone, saved.folder, host)
    backbone = load_backbone(saved.base, host, prefer=task.attention, language_model=saved.language_model)
    return put_together(saved, backbone, devices, host)


def gpu_config(saved: Saved, device: str) -> GPUConfig:
    """Return what a trained task computes on, and in which precision."""
    gpu = saved.config.gpu
    return GPUConfig(
        device=device,  # type: ignore[arg-type]  # checked by set_up
        precision=gpu.precision,
        evaluation_precision=gpu.evaluation_precision,
    )


def put_together(
    saved: Saved,
    backbone: Backbone,
    devices: Devices,
    host: Host,
    fingerprint: str | None = None,
    base: Backbone | None = None,
) -> LoadedRun:
    """Put what was learnt on a plain backbone, whose `base_fingerprint` may be known, or on a view of `base`."""
    task, folder = saved.task, saved.folder
    refuse_other_backbone(folder, backbone)
    leave_room(backbone, saved.config.adapter)
    backbone = adapt(backbone, saved.config, host, fingerprint)
    if base is not None:
        own_what_is_trained(backbone, base)
    load_adapter(folder, task.name, backbone, own_backbone=saved.own_backbone)
    if task.needs_language_model and (base is not None or not saved.own_backbone):
        refuse_other_output(folder, backbone)
    model = TaskModel(backbone, {task.name: task.build_head_on(backbone)})
    load_heads(folder, model)
    loaded = LoadedRun(folder, saved.config, task, model.to(devices.accelerator.device).eval(), devices)
    loaded.encode_shared()
    share(loaded.model, task, devices)
    return loaded


def restore_task(config: RunConfig, folder: RunFolder, host: Host) -> Task:
    """Make the task of a run with what it learnt; `RunError` where the folder does not hold that."""
    refuse_several_tasks(config, folder)
    task = load_task(config.tasks[0], host)
    try:
        task.restore(RunFolder(folder.model).read_json("tasks.json")[task.name])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"'{folder.model / 'tasks.json'}' does not hold what task '{task.name}' learnt: "
            "it is damaged, or of another version of the task."
        ) from error
    return task


def refuse_several_tasks(config: RunConfig, folder: RunFolder) -> None:
    """Raise `RunError` where a run has more than one task, or none."""
    if not config.tasks:
        raise RunError(f"The run in '{folder.path}' names no task: its config.yaml is damaged.")
    if len(config.tasks) > 1:
        raise RunError(
            f"The run in '{folder.path}' names {len(config.tasks)} tasks: give the folder of one, such as "
            f"'{folder.of_task(config.tasks[0].name).path}'."
        )


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
    attention = attention_in(found)
    if attention is not None:
        return attention
    raise RunError(f"'{folder.path / 'run.json'}' does not say how the backbone attends: it has {found!r}.")
