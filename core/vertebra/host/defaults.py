"""What the core itself brings, registered through the same hooks as a plugin's."""

from __future__ import annotations

from vertebra.host.hookspecs import hookimpl
from vertebra.host.refs import (
    AdapterRef,
    BackboneRef,
    BehaviourRef,
    CommandRef,
    MetricRef,
    OptimizerRef,
    ReaderRef,
    SchedulerRef,
)

LABELLED = ("sequence-classification",)
"""The family of tasks that the metrics score."""


@hookimpl
def register_backbones() -> list[BackboneRef]:
    """Bring the embedded backbone, and any causal decoder that transformers loads."""
    return [
        BackboneRef("nano", "vertebra.engine.sources:nano", summary="the embedded model"),
        BackboneRef("hf", "vertebra.engine.sources:hf", summary="a Hub name or a local folder"),
    ]


@hookimpl
def register_adapters() -> list[AdapterRef]:
    """Bring the ways to train the backbone: whole, not at all, in part, or beside it."""
    parts, peft = "vertebra.engine.adapters.parts", "vertebra.engine.adapters.by_peft"
    config = "vertebra.config.adapters"
    # The generator's layers have no place for a prefix.
    without_texts = (
        "corpus",
        "custom",
        "ranking",
        "sequence-classification",
        "span-extraction",
        "token-classification",
    )
    return [
        AdapterRef("none", f"{parts}:none", summary="train the whole backbone"),
        AdapterRef("frozen", f"{parts}:frozen", summary="train the head alone"),
        AdapterRef("layer_norm", f"{parts}:layer_norm", rate=10.0, summary="train the norms"),
        AdapterRef("top_layers", f"{parts}:top_layers", f"{config}:TopLayersConfig", "train the uppermost layers"),
        AdapterRef("lora", f"{peft}:lora", f"{config}:LoRAConfig", "add low-rank matrices", rate=10.0, each=True),
        AdapterRef("dora", f"{peft}:lora", f"{config}:LoRAConfig", "low-rank directions, and lengths", rate=10.0),
        AdapterRef("rslora", f"{peft}:lora", f"{config}:LoRAConfig", "lora for high ranks", rate=5.0, each=True),
        AdapterRef(
            "adalora",
            "vertebra.engine.adapters.adalora:adalora",
            f"{config}:AdaLoRAConfig",
            "lora whose ranks go where they matter",
            rate=10.0,
        ),
        AdapterRef("ia3", f"{peft}:ia3", rate=50.0, summary="scale keys, values and inner activations"),
        AdapterRef(
            "prefix",
            f"{peft}:prefix",
            f"{config}:PrefixConfig",
            "learn keys and values before each text",
            packed=False,
            tasks=without_texts,
            rate=50.0,
        ),
        AdapterRef(
            "bottleneck",
            "vertebra.engine.adapters.bottleneck:bottleneck",
            f"{config}:BottleneckConfig",
            "small layers behind the feed-forward parts",
            rate=10.0,
        ),
    ]


@hookimpl
def register_optimizers() -> list[OptimizerRef]:
    """Bring the optimizers."""
    place = "vertebra.engine.optimizers"
    return [
        OptimizerRef("adamw", f"{place}:adamw"),
        OptimizerRef("muon", f"{place}:muon", sharded=False),
        OptimizerRef("sgd", f"{place}:sgd", sharded=False),  # torch's fused kernel takes whole tensors alone
    ]


@hookimpl
def register_behaviours() -> list[BehaviourRef]:
    """Bring what may change a training step."""
    place = "vertebra.engine.adversarial:FastGradient"
    return [
        BehaviourRef("fgm", place, summary="adversarial training", adapters=False)
    ]  # it moves what they leave alone


@hookimpl
def register_schedulers() -> list[SchedulerRef]:
    """Bring the learning-rate schedules."""
    return [SchedulerRef(name, f"vertebra.engine.schedules:{name}") for name in ("linear", "cosine", "wsd", "constant")]


@hookimpl
def register_readers() -> list[ReaderRef]:
    """Bring the data formats."""
    of_files = ("columns", "csv", "tsv", "json", "parquet")
    files = [ReaderRef(name, f"vertebra.data.readers:read_{name}", splits="files") for name in of_files]
    return [*files, ReaderRef("hub", "vertebra.data.readers:read_hub", splits="parts")]


@hookimpl
def register_metrics() -> list[MetricRef]:
    """Bring the scores of labels that texts have: one, any number, or one of an ordered scale."""
    return [
        MetricRef("accuracy", "vertebra.metrics.classification:Accuracy", tasks=LABELLED),
        MetricRef("macro_f1", "vertebra.metrics.classification:MacroF1", tasks=LABELLED),
        MetricRef("mcc", "vertebra.metrics.classification:MatthewsCorrelation", tasks=LABELLED),
        MetricRef("calibration_error", "vertebra.metrics.classification:CalibrationError", tasks=LABELLED),
        MetricRef("multilabel_micro_f1", "vertebra.metrics.multilabel:MultilabelMicroF1", tasks=LABELLED),
        MetricRef("multilabel_macro_f1", "vertebra.metrics.multilabel:MultilabelMacroF1", tasks=LABELLED),
        MetricRef("subset_accuracy", "vertebra.metrics.multilabel:SubsetAccuracy", tasks=LABELLED),
        MetricRef("quadratic_kappa", "vertebra.metrics.ordinal:QuadraticKappa", tasks=LABELLED),
        MetricRef("mean_absolute_error", "vertebra.metrics.ordinal:MeanAbsoluteError", plain=True, tasks=LABELLED),
    ]


@hookimpl
def register_commands() -> list[CommandRef]:
    """Bring the commands."""
    summaries = {
        "train": "train, evaluate, save and report a task",
        "evaluate": "score a finished run again, on its own data or on other data",
        "search": "search for good settings with Optuna",
        "runs": "list runs, with their settings and scores",
        "resume": "go on with a run that was stopped, killed, or failed",
        "predict": "predict with a finished run, from text or from a file",
        "bundle": "keep a trained task without its backbone: make, show and check a small folder",
        "export": "write a run's backbone to a folder that transformers loads",
        "compare": "compare two finished runs on the same rows: is the difference real, and where is it?",
        "forgetting": "score a task on what a later run made of its backbone",
        "leaderboard": "compare finished runs over seeds and tasks, as one report",
        "benchmark": "train a suite of systems, tasks and seeds, and compare them",
        "export-results": "write runs and their results as JSON in a stable form",
        "baseline": "score what a task's model must beat, without any backbone",
        "inspect": "show a data set as the model will see it",
        "tokenizer": "learn a byte-level BPE tokenizer from text files",
        "plugins": "list the installed plugins, what they bring and what failed",
        "doctor": "show what is found here: versions, devices, fast paths, plugins, caches",
        "matrix": "show what goes together: tasks, adapters, attention, packing, models",
        "cache": "list what is kept on disk to be faster the next time, and clean it",
        "new-plugin": "write an installable plugin with a task that learns at once",
    }
    return [
        CommandRef(name, f"vertebra.cli.{name.replace('-', '_')}:main", summary=summary)
        for name, summary in summaries.items()
    ]


@hookimpl
def register_config_packages() -> list[str]:
    """Bring the option files of the core's configuration groups."""
    return ["vertebra_conf"]
