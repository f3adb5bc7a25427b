"""What the checks of one task share: its rows, its features, and a few tiny runs, each made when it is first asked for."""

from __future__ import annotations

import inspect
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import torch

from vertebra.config.options import configure
from vertebra.config.schema import RunConfig
from vertebra.data.load import load_splits
from vertebra.engine.devices import Devices, set_up
from vertebra.engine.evaluate import Evaluation, evaluate, predict_parts, share
from vertebra.engine.model import TaskModel
from vertebra.errors import PluginError, VertebraError
from vertebra.host.hooks import describe
from vertebra.host.manager import ENTRY_POINTS, Host, create_host
from vertebra.host.records import PluginRecord
from vertebra.host.refs import TaskRef
from vertebra.runs.execute import train
from vertebra.runs.prepare import Prepared, prepare
from vertebra.runs.tasks import load_task
from vertebra.tasks.config import CorpusConfig, GenerationConfig
from vertebra.tasks.features import Features
from vertebra.tasks.task import Row, Task
from vertebra.testing.breaches import DoesNotApplyError, UnmetError, place

T = TypeVar("T")
KnownScore = tuple[str, Sequence[Any], Sequence[Any], float]
"""A metric, predictions, references, and the score that it must give them."""

ROWS = 24
STEPS = 6
TINY = {"n_layer": 1, "n_embd": 32, "n_head": 2}
NO_DROPOUT = {"embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0}
SHORT: dict[type, dict[str, Any]] = {GenerationConfig: {"max_new_tokens": 24}, CorpusConfig: {"window": 48}}
"""Settings of the core's families that would otherwise make a task slow; others that the author gives come first."""


class shared(Generic[T]):  # noqa: N801  (a decorator)
    """A property that is made once; where that failed, who asks again is told so by `UnmetError`."""

    def __init__(self, make: Callable[[Case], T]) -> None:
        self.make, self.__doc__ = make, make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, case: None, owner: type) -> shared[T]: ...

    @overload
    def __get__(self, case: Case, owner: type) -> T: ...

    def __get__(self, case: Case | None, owner: type) -> shared[T] | T:
        if case is None:
            return self
        kept = vars(case)
        if f"no {self.name}" in kept:
            raise UnmetError(kept[f"no {self.name}"])
        try:
            kept[self.name] = self.make(case)
        except (DoesNotApplyError, UnmetError):
            raise
        except Exception as error:
            said = str(error) if isinstance(error, VertebraError) else describe(error)
            kept[f"no {self.name}"] = f"for it needs what another check could not make: {said}"
            raise
        made: T = kept[self.name]
        return made


class Case:
    """One task, as the checks try it."""

    def __init__(
        self,
        task: str | type[Task],
        folder: Path,
        *,
        data: str | Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        trainer: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        known_scores: Sequence[KnownScore] = (),
    ) -> None:
        """Take what `check_task` takes, and a folder for runs; nothing is loaded yet."""
        self.given, self.folder = task, folder
        self.name: str = task if isinstance(task, str) else getattr(task, "name", task.__name__)
        self.data = {"option": data} if isinstance(data, str) else dict(data or {})
        self.settings, self.trainer = dict(settings or {}), dict(trainer or {})
        self.min_score, self.known_scores = min_score, known_scores

    # --- the task

    @cached_property
    def host(self) -> Host:
        """The installed plugins."""
        return create_host()

    @shared
    def ref(self) -> TaskRef:
        """The task's reference; `PluginError` where it is not registered."""
        ref = self.host.get("task", self.name)
        assert isinstance(ref, TaskRef)
        if not isinstance(self.given, str) and ref.load() is not self.given:
            raise PluginError(f"The task '{self.name}' is registered as '{ref.target}', which is not the given class.")
        return ref

    @shared
    def task_class(self) -> type[Task]:
        """The task's class."""
        found: type[Task] = self.ref.load()
        return found

    @property
    def plugin(self) -> PluginRecord:
        """The plugin that brings the task."""
        return next(one for one in self.host.plugins if self.name in one.registers.get("task", ()))

    @cached_property
    def entry_module(self) -> str:
        """The module of the plugin's entry point."""
        points = metadata.entry_points(group=ENTRY_POINTS, name=self.plugin.name)
        return next(iter(points)).module

    @property
    def packages(self) -> tuple[str, ...]:
        """The top-level packages that are the author's: where to look for what is wrong."""
        try:
            modules = {self.ref.target.partition(":")[0], self.entry_module}
        except Exception:  # what has no task yet has no package
            return ()
        return tuple(sorted({module.partition(".")[0] for module in modules}))

    def place(self, method: str) -> str:
        """Return where the task has a method."""
        return place(self.task_class, method)

    # --- runs

    def config(
        self,
        *,
        steps: int = STEPS,
        seed: int = 1,
        backbone: Mapping[str, Any] | None = None,
        dropout: bool = True,
        **trainer: Any,
    ) -> RunConfig:
        """Return a run on a few rows with a tiny backbone of random weights, on one core, in fp32."""
        owner = self.ref.load_config()
        short = [some for family, some in SHORT.items() if isinstance(owner, type) and issubclass(owner, family)]
        settings = {name: value for some in short for name, value in some.items()} | self.settings
        return configure(
            self.host,
            task={"option": self.name, **settings},
            data={"limit": ROWS, **self.data},
            backbone={
                "init": "random",
                "config": {**TINY, **({} if dropout else NO_DROPOUT)},
                "attention": self.task_class.attention,  # as declared, said in so many words
                **(backbone or {}),
            },
            gpu={"option": "cpu", "threads": 1, "precision": "fp32"},
            trainer={
                "max_steps": steps,
                "epochs": float(steps),  # the steps decide, not how few the rows are
                "batch_size": 8,
                "learning_rate": 3e-3,
                "evaluate_every": steps,
                "checkpoint_every": max(1, steps // 2),
                "baselines": False,
                "trackers": [],
                **trainer,
            },
            seed=seed,
        )

    def train(self, name: str, config: RunConfig) -> Path:
        """Make a run; return its folder."""
        train(config, self.folder / name, self.host)
        return self.folder / name

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Keep what runs say to themselves, and their cached features away from the user's; random state stays as it was."""
        before, said = os.environ.get("VERTEBRA_CACHE"), io.StringIO()
        os.environ["VERTEBRA_CACHE"] = str(self.folder / "cache")
        threads = torch.get_num_threads()
        try:
            with redirect_stdout(said), redirect_stderr(said), torch.random.fork_rng(devices=[]):
                yield
        finally:
            torch.set_num_threads(threads)
            os.environ.pop("VERTEBRA_CACHE")
            if before is not None:
                os.environ["VERTEBRA_CACHE"] = before

    @shared
    def devices(self) -> Devices:
        """One core."""
        return set_up(self.config().gpu)

    @shared
    def prepared(self) -> tuple[Prepared, TaskModel]:
        """The fitted task with its rows and features, and a model that nobody has trained."""
        prepared, model = prepare(self.config(dropout=False), self.devices, self.host)
        return prepared, model.eval()

    @shared
    def short_run(self) -> Path:
        """A run of a few steps."""
        return self.train("short", self.config())

    # --- rows that have a reference

    @shared
    def judged(self) -> str:
        """The split whose rows are predicted: train, or valid where training rows have no reference of their own."""
        prepared, _ = self.prepared
        for split in ("train", "valid"):
            try:
                for row in prepared.splits.rows[split]:
                    prepared.task.reference(row)
            except VertebraError:
                continue
            return split
        raise DoesNotApplyError("neither training nor validation rows have a reference")

    @property
    def rows(self) -> Sequence[Row]:
        """The rows whose predictions are looked at."""
        return self.prepared[0].splits.rows[self.judged]

    @property
    def features(self) -> list[Features]:
        """Their features."""
        return list(self.prepared[0].encoded[self.judged].features)

    @shared
    def references(self) -> list[Any]:
        """Their references."""
        return [self.prepared[0].task.reference(row) for row in self.rows]

    @shared
    def untrained(self) -> Evaluation:
        """What a model that nobody has trained says of them."""
        prepared, model = self.prepared
        return self.evaluate(prepared.task, model, self.rows, self.features)

    def evaluate(self, task: Task, model: TaskModel, rows: Sequence[Row], features: Sequence[Features]) -> Evaluation:
        """Predict rows and score the predictions."""
        metrics = self.prepared[0].metrics
        return evaluate(model, task, "sample", rows, features, metrics, self.devices)

    def training_loss(self, task: Task, model: TaskModel) -> float:
        """Return the mean loss of the training rows, which need no reference for it."""
        share(model, task, self.devices)
        features = self.prepared[0].encoded["train"].features
        parts = list(predict_parts(model, task, features, self.devices, only=()))
        return sum(one.loss * one.n_targets for one in parts) / max(1, sum(one.n_targets for one in parts))

    @shared
    def gold(self) -> list[Any]:
        """What the outputs that the loss likes best are decoded to."""
        from vertebra.testing.gold import gold_predictions

        return gold_predictions(self)

    # --- a task without a run

    def unread(self) -> list[Row]:
        """Return the training rows as they are loaded, before any task has seen them."""
        choice = self.config().tasks[0]
        return list(load_splits(choice.data, load_task(choice, self.host), self.host).rows["train"])

    def fitted(self, rows: Sequence[Row]) -> Task:
        """Return a new task, fitted on rows of the sample."""
        task = load_task(self.config().tasks[0], self.host)
        if task.tables:
            task.read_tables(self.prepared[0].splits.tables)
        task.fit(rows)
        return task

    def source_files(self) -> list[Path]:
        """Return the Python files of the author's packages."""
        import importlib

        folders = [Path(inspect.getfile(importlib.import_module(name))).parent for name in self.packages]
        return sorted(file for folder in folders for file in folder.rglob("*.py"))


def numbered(features: Sequence[Features]) -> list[Features]:
    """Return features as if they were those of rows of their own, numbered in their order."""
    return [replace(one, example=number, window=0) for number, one in enumerate(features)]
