"""References: a name, and where the thing behind it is. Nothing is imported until `load` is called."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from vertebra.errors import PluginError


@dataclass(frozen=True)
class Ref:
    """A registered name and the `package.module:attribute` behind it.

    `config` names, in the same form, the dataclass that owns its settings and their defaults; the module of a config
    class must import neither torch nor transformers, because every command line loads it.
    """

    name: str
    target: str
    config: str | None = None
    summary: str = ""

    kind: ClassVar[str] = "component"

    def load(self) -> Any:
        """Import and return the object behind this name; a failure is a `PluginError` that shows its cause."""
        return load_attribute(self.target, f"{self.kind} '{self.name}'")

    def load_config(self) -> type | None:
        """Import and return the config dataclass, or None when there is none."""
        return None if self.config is None else load_attribute(self.config, f"the config of {self.kind} '{self.name}'")


def load_attribute(target: str, what: str) -> Any:
    """Import `package.module:attribute`; `what` names it in the error."""
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise PluginError(f"Cannot import {what} from '{target}': {type(error).__name__}: {error}") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise PluginError(f"Cannot import {what}: module '{module_name}' has no '{attribute}'.") from None


class TaskRef(Ref):
    """A `vertebra.Task` subclass."""

    kind = "task"


@dataclass(frozen=True)
class MetricRef(Ref):
    """A `vertebra.Metric` subclass; it is made without arguments.

    Scores are shown in percent; `plain` is for those that are no shares, such as bits or a mean error. With
    `trainer.more_metrics` a run of a family that is not among `tasks` is refused when it is composed.
    """

    plain: bool = False
    tasks: tuple[str, ...] | None = None
    """The families of tasks (`Task.family`) whose predictions it scores; None for all that have predictions of that form."""

    kind = "metric"


class BackboneRef(Ref):
    """A function `(BackboneConfig) -> BackboneSource`: where a named backbone's config, weights and tokenizer are."""

    kind = "backbone"


@dataclass(frozen=True)
class AdapterRef(Ref):
    """A function that makes a backbone trainable in part: `(Backbone, AdapterConfig) -> Backbone`.

    `config` names a dataclass that derives from `AdapterConfig`. What it cannot work with is declared here, and refused
    when a run is composed.
    """

    packed: bool = True
    """Whether it is right on packed batches; where it is not, batches are padded."""
    models: tuple[str, ...] | None = None
    """The families of models (transformers' `model_type`) that it can adapt; None for all."""
    tasks: tuple[str, ...] | None = None
    """The families of tasks (`Task.family`) that it works for; None for all."""
    rate: float = 1.0
    """What `trainer.learning_rate=auto` multiplies the backbone's rate with."""
    each: bool = False
    """Whether each of several tasks can train one of its own (`trainer.adapters=each`): only what peft's plain LoRA adds."""

    kind = "adapter"


@dataclass(frozen=True)
class OptimizerRef(Ref):
    """A function `(parameter_groups, TrainerConfig) -> torch.optim.Optimizer`."""

    sharded: bool = True
    """Whether it works where each process holds some rows of a parameter; where it does not, `gpu.shard=true` is refused."""

    kind = "optimizer"


class SchedulerRef(Ref):
    """A function `(step, warmup_steps, total_steps) -> float`: the factor on the learning rate at that step."""

    kind = "schedule"


@dataclass(frozen=True)
class ReaderRef(Ref):
    """A function `(DataConfig) -> dict[str, list[Row]]`: the rows of each split, by a format's name.

    `reads_path` says whether it reads what `data.path` names, which must then be given, or makes its rows itself. `splits`
    says what `data.splits` names for it: `files`, as `vertebra.data.splits.find_files` finds them, or `parts` of other kinds,
    such as tables; by default nothing, and a run that sets `data.splits` is refused.
    """

    reads_path: bool = True
    splits: Literal["files", "parts"] | None = None

    kind = "reader"


class CommandRef(Ref):
    """A function `(argv: list[str]) -> int | None` that runs as `vertebra NAME …`; `summary` is its line in `--help`."""

    kind = "command"


class ReportSectionRef(Ref):
    """A function `(RunFolder) -> str` that returns one HTML section of the report, or an empty string for none."""

    kind = "report section"


@dataclass(frozen=True)
class BehaviourRef(Ref):
    """A class with behaviour hooks (`vertebra.host.hookspecs.BehaviourHooks`); acts when named in `trainer.behaviours`."""

    adapters: bool = True
    """Whether it works where only a part of the backbone is trained; where it does not, adapters are refused beside it."""

    kind = "behaviour"
