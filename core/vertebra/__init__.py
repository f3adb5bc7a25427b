"""Vertebra: NLP tasks as plugins on one shared GPT backbone.

Every public name is imported when it is first used, so that `import vertebra` costs nothing and brings no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vertebra.waiting import give_way

if TYPE_CHECKING:
    from vertebra.config.options import configure as configure
    from vertebra.config.schema import AdapterConfig as AdapterConfig
    from vertebra.config.schema import BackboneConfig as BackboneConfig
    from vertebra.config.schema import DataConfig as DataConfig
    from vertebra.config.schema import GPUConfig as GPUConfig
    from vertebra.config.schema import RunConfig as RunConfig
    from vertebra.config.schema import TaskChoice as TaskChoice
    from vertebra.config.schema import TrainerConfig as TrainerConfig
    from vertebra.engine.generation.generator import Generator as Generator
    from vertebra.engine.generation.request import Completion as Completion
    from vertebra.engine.generation.request import Request as Request
    from vertebra.engine.generation.request import Sampling as Sampling
    from vertebra.engine.heads import HeadSettings as HeadSettings
    from vertebra.engine.packing import PackedBatch as PackedBatch
    from vertebra.errors import VertebraError as VertebraError
    from vertebra.host.hookspecs import hookimpl as hookimpl
    from vertebra.host.manager import create_host as create_host
    from vertebra.host.refs import AdapterRef as AdapterRef
    from vertebra.host.refs import BackboneRef as BackboneRef
    from vertebra.host.refs import BehaviourRef as BehaviourRef
    from vertebra.host.refs import CommandRef as CommandRef
    from vertebra.host.refs import MetricRef as MetricRef
    from vertebra.host.refs import OptimizerRef as OptimizerRef
    from vertebra.host.refs import ReaderRef as ReaderRef
    from vertebra.host.refs import ReportSectionRef as ReportSectionRef
    from vertebra.host.refs import SchedulerRef as SchedulerRef
    from vertebra.host.refs import TaskRef as TaskRef
    from vertebra.metrics.metric import Mean as Mean
    from vertebra.metrics.metric import Metric as Metric
    from vertebra.report.figures import ConfusionMatrix as ConfusionMatrix
    from vertebra.report.figures import Table as Table
    from vertebra.runs.execute import train as train
    from vertebra.runs.jobs import Job as Job
    from vertebra.runs.jobs import JobResult as JobResult
    from vertebra.runs.load import load as load
    from vertebra.runs.probe import probe as probe
    from vertebra.runs.sweep import run_jobs as run_jobs
    from vertebra.tasks.baseline import Baseline as Baseline
    from vertebra.tasks.features import Features as Features
    from vertebra.tasks.generation import Generation as Generation
    from vertebra.tasks.heads import BatchHead as BatchHead
    from vertebra.tasks.ranking import Ranking as Ranking
    from vertebra.tasks.sequence_classification import SequenceClassification as SequenceClassification
    from vertebra.tasks.span_extraction import SpanExtraction as SpanExtraction
    from vertebra.tasks.task import Row as Row
    from vertebra.tasks.task import Task as Task
    from vertebra.tasks.token_classification import TokenClassification as TokenClassification

    __version__: str

give_way()  # before anything here imports torch

_NAMES = {
    "vertebra.config.options": ("configure",),
    "vertebra.config.schema": (
        "AdapterConfig",
        "BackboneConfig",
        "DataConfig",
        "GPUConfig",
        "RunConfig",
        "TaskChoice",
        "TrainerConfig",
    ),
    "vertebra.engine.generation.generator": ("Generator",),
    "vertebra.engine.generation.request": ("Completion", "Request", "Sampling"),
    "vertebra.engine.heads": ("HeadSettings",),
    "vertebra.engine.packing": ("PackedBatch",),
    "vertebra.errors": ("VertebraError",),
    "vertebra.host.hookspecs": ("hookimpl",),
    "vertebra.host.manager": ("create_host",),
    "vertebra.host.refs": (
        "AdapterRef",
        "BackboneRef",
        "BehaviourRef",
        "CommandRef",
        "MetricRef",
        "OptimizerRef",
        "ReaderRef",
        "ReportSectionRef",
        "SchedulerRef",
        "TaskRef",
    ),
    "vertebra.metrics.metric": ("Mean", "Metric"),
    "vertebra.report.figures": ("ConfusionMatrix", "Table"),
    "vertebra.runs.execute": ("train",),
    "vertebra.runs.jobs": ("Job", "JobResult"),
    "vertebra.runs.load": ("load",),
    "vertebra.runs.probe": ("probe",),
    "vertebra.runs.sweep": ("run_jobs",),
    "vertebra.tasks.baseline": ("Baseline",),
    "vertebra.tasks.features": ("Features",),
    "vertebra.tasks.generation": ("Generation",),
    "vertebra.tasks.heads": ("BatchHead",),
    "vertebra.tasks.ranking": ("Ranking",),
    "vertebra.tasks.span_extraction": ("SpanExtraction",),
    "vertebra.tasks.sequence_classification": ("SequenceClassification",),
    "vertebra.tasks.task": ("Row", "Task"),
    "vertebra.tasks.token_classification": ("TokenClassification",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        try:
            value: Any = metadata.version("vertebra")
        except metadata.PackageNotFoundError:  # a source tree on the path that nobody installed
            value = "0+uninstalled"
    elif name in _HOME:
        from importlib import import_module

        value = getattr(import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module 'vertebra' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
