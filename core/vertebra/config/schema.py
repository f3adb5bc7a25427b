"""The configuration of a run: frozen dataclasses, the one place where the core's defaults stand.

Hydra's option files say only what differs from these. Below `resolve()` nothing else is passed around.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

Auto = Literal["auto"]
Positive = Annotated[int, Gt(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]
Share = Annotated[float, Ge(0), Le(1)]


class Strict:
    """Makes pydantic refuse keys that a dataclass does not have, and numbers that are none."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}


@dataclass(frozen=True)
class DataConfig(Strict):
    """Where rows come from and how they become a task's columns."""

    path: str | None = None
    """A local folder or file, or the name of a data set on the Hub (`owner/name`)."""
    config_name: str | None = None
    """Which configuration of a Hub data set."""
    revision: str | None = None
    """Which revision of a Hub data set."""
    format: str = "auto"
    """auto, hub, columns, csv, tsv, json, parquet, or the name of a registered reader."""
    columns: dict[str, str | int] = field(default_factory=dict)
    """The data's column behind each column of the task: a name, or a number for files without names (-1 is the last)."""
    group_by: str | None = None
    """Rows with the same value in this column of the data become one: columns that hold lists gather their values."""
    splits: dict[str, str | tuple[str, ...]] = field(default_factory=dict)
    """The file or the data set's split behind train, valid and test, or a list of files; found by name where not given."""
    valid_fraction: Fraction = 0.1
    """The share of the training rows that becomes the validation split where the data has none."""
    test_fraction: Fraction = 0.1
    """The share of the training rows that becomes the test split where the data has none; 0 for no test split."""
    split_seed: int = 0
    """The seed of that cut."""
    split_by: str | None = None
    """That cut never parts rows with the same value in this column of the task, such as questions on one text."""
    limit: Positive | None = None
    """At most this many rows of each split, the first ones."""
    too_long: Literal["auto", "window", "truncate", "error"] = "auto"
    """What happens to a text over the backbone's context; auto: as the task's family prefers."""
    bad_rows: Literal["error", "skip"] = "error"
    """What happens to rows that the task cannot use; those that are skipped are counted in the report."""
    encoding: str = "utf-8"
    """The encoding of text files."""
    separator: str | None = None
    """The column separator of text files; found by itself where not given."""
    cache: bool = True
    """Keep encoded features, and the hidden states of a frozen backbone, on disk."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further settings of a registered reader."""


@dataclass(frozen=True)
class BackboneConfig(Strict):
    """Which model reads the text."""

    name: str = "nano"
    """A registered backbone; `hf` takes `path`."""
    path: str | None = None
    """A local folder or a Hub name, for `hf`."""
    revision: str | None = None
    """Which revision of a Hub model."""
    init: Literal["auto", "pretrained", "random"] = "auto"
    """auto: the weights where the backbone has them, else random."""
    attention: Literal["auto", "causal", "bidirectional"] | Share | tuple[Literal["causal", "bidirectional"], ...] = (
        "auto"
    )
    """auto: what the task prefers for random weights and for those that learnt to be read either way, as nano's; the weights
    of a run as it trained them, all others causally. A number is the share of the layers, the upper ones, that look both
    ways; a list says it of each layer."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """The type the weights are held in; auto: float32."""
    packing: Literal["auto", "packed", "padded"] = "auto"
    """auto: packed where the family was verified to give the same numbers, else padded."""
    freeze: bool = False
    """Train the task's head alone, on hidden states that are computed once, without dropout in the backbone."""
    gradient_checkpointing: bool = False
    """Compute activations twice to save memory."""
    context: Positive | None = None
    """At most this many tokens a sequence; by default what the model was made for."""
    config: dict[str, Any] = field(default_factory=dict)
    """Changes to the model's own configuration, such as dropout rates; changes of shape need init=random."""


@dataclass(frozen=True)
class AdapterConfig(Strict):
    """What part of the backbone is trained."""

    name: str = "none"
    """A registered adapter; `none` trains the whole backbone."""

    @property
    def rate_scale(self) -> float:
        """What these settings make of the rate that `trainer.learning_rate=auto` means at the adapter's defaults."""
        return 1.0


@dataclass(frozen=True)
class GPUConfig(Strict):
    """Devices, processes, precision and how much is computed at once."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where there is one."""
    processes: Positive | Auto = 1
    """How many processes train together; auto: one for each GPU."""
    shard: bool = False
    """Each process holds a part of the weights, gradients and moments (FSDP2), and not all of them."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What training computes in; auto: bf16 where the hardware computes it natively."""
    evaluation_precision: Literal["fp32", "bf16"] = "fp32"
    """What evaluation and prediction compute in."""
    token_budget: Positive | Auto = "auto"
    """At most this many tokens in one forward pass (a longer sequence passes alone); halved where memory runs out.

    auto: on a GPU what most of its memory holds, measured at the start; else 4096.
    """
    threads: Positive | Auto = "auto"
    """CPU threads of each process; auto: the cores, shared among the processes."""
    deterministic: bool = False
    """On a GPU, use only algorithms that give the same bits each time."""


@dataclass(frozen=True)
class TrainerConfig(Strict):
    """How the model learns. `auto` takes what the backbone recommends, by its size and by random or pretrained weights."""

    epochs: Annotated[float, Gt(0)] | Auto = "auto"
    """How often the training split is seen; auto: 3 to 5 times, and few rows up to 20 times."""
    max_steps: Positive | None = None
    """Stop after this many steps, whatever `epochs` says."""
    batch_size: Positive = 32
    """Examples in one step, over all processes."""
    learning_rate: Annotated[float, Gt(0)] | Auto = "auto"
    """The peak rate of the backbone."""
    head_learning_rate: Annotated[float, Gt(0)] | None = None
    """The peak rate of the task's head; by default the backbone's."""
    layer_decay: Annotated[float, Gt(0), Le(1)] = 1.0
    """Each layer below the top learns at this factor of the one above it."""
    warmup: Fraction | Auto = "auto"
    """The share of all steps in which the rate rises."""
    optimizer: str = "adamw"
    """A registered optimizer."""
    schedule: str = "linear"
    """A registered schedule."""
    weight_decay: Annotated[float, Ge(0)] = 0.01
    """Decoupled weight decay; never on biases, norms and embeddings."""
    l2sp: Annotated[float, Ge(0)] = 0.0
    """How strongly the backbone's weights are pulled to where they began, so that it keeps what it has learnt (L2-SP)."""
    ewc: Annotated[float, Ge(0)] = 0.0
    """How strongly each weight is pulled there that matters to the task of `ewc_from` (elastic weight consolidation)."""
    ewc_from: str | None = None
    """The folder of the run that left the backbone which this run begins with."""
    ewc_rows: Positive = 1000
    """From at most this many of that run's training rows it is estimated how much each weight matters to it."""
    clip: Annotated[float, Gt(0)] | None = 1.0
    """The largest norm of the gradient."""
    evaluate_every: Positive | Literal["epoch"] = "epoch"
    """Evaluate on validation after this many steps, or after each epoch."""
    checkpoint_every: Positive | None = None
    """Write a checkpoint after this many steps, besides those at each evaluation."""
    patience: Positive | None = None
    """Stop after this many evaluations without a better score; of several tasks, each one's examples by its own score."""
    metric: str | None = None
    """The validation score that picks the best checkpoint, or `loss`; by default the task's first metric."""
    more_metrics: tuple[str, ...] = ()
    """Registered metrics that are computed besides the task's own, such as those of a plugin."""
    keep_checkpoints: Positive = 2
    """How many of the latest checkpoints stay on disk, beside the best one."""
    log_every: Positive = 10
    """Write the loss every so many steps."""
    sampling: Literal["proportional", "temperature", "uniform"] = "proportional"
    """With several tasks, how often the examples of each are seen: by their number, by its root, or as often as any other's."""
    sampling_temperature: Annotated[float, Ge(1)] = 2.0
    """Which root of their numbers sampling=temperature takes: 1 is proportional, and a large one uniform."""
    weighting: Literal["fixed", "uncertainty"] = "fixed"
    """With several tasks, whether their losses weigh what the tasks' settings say, or learn on top of it what they weigh."""
    adapters: Literal["shared", "each"] = "shared"
    """With several tasks, whether they share the adapter, or each trains one of its own and they have nothing in common."""
    behaviours: tuple[str, ...] = ()
    """Registered behaviours that change the training step."""
    baselines: bool = True
    """Compute what the task's baselines score, to stand above the run's own scores; it changes no result."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Where scores go besides the run folder: tensorboard, wandb, mlflow."""


@dataclass(frozen=True)
class TaskChoice(Strict):
    """One task of a run: its registered name, its own settings and its data."""

    name: str
    """The name that the task is registered under."""
    config: Any = None
    """An instance of the task's config dataclass."""
    data: DataConfig = field(default_factory=DataConfig)
    """Where its rows come from."""
    weight: Annotated[float, Gt(0)] = 1.0
    """What its examples weigh in the loss, beside those of the run's other tasks."""
    share: Annotated[float, Gt(0), Lt(1)] | None = None
    """The share of a run's examples that are its own, whatever `trainer.sampling` says; an epoch then goes over the others."""
    rate: Annotated[float, Gt(0)] | Auto = "auto"
    """Its learning rate in terms of `trainer.learning_rate`, with `trainer.adapters=each`. auto: 1, or where that one is auto
    less, the fewer rows it has in a step."""
    head_from: str | None = None
    """The folder of a run whose head for this task it begins with, and with what that run learnt from its rows, as labels."""


@dataclass(frozen=True)
class RunConfig(Strict):
    """Everything that a run is made from."""

    tasks: tuple[TaskChoice, ...]
    """What is learnt, and from which data."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Which model reads the text."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """What part of it is trained."""
    gpu: GPUConfig = field(default_factory=GPUConfig)
    """On what, and how much at once."""
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    """How it learns."""
    seed: Annotated[int, Ge(0), Lt(2**63)] = 1
    """Sets random weights, the order of examples and dropout."""
