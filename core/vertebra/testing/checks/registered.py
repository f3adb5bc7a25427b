"""Whether the plugin is active, and what its task names is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from vertebra.config.schema import Strict
from vertebra.errors import PluginError
from vertebra.runs.tasks import load_metrics, load_task
from vertebra.tasks.task import Task
from vertebra.testing.breaches import Breach
from vertebra.testing.case import Case


def check(case: Case) -> Iterator[Breach]:
    """Look up the task, its config and its metrics."""
    try:
        owner, config = case.task_class, case.ref.load_config()
    except PluginError as error:
        yield Breach(
            f"task '{case.name}'",
            str(error),
            "the package is not installed (pip install -e .), its entry point in the group `vertebra` is missing, or "
            "register_tasks names another module or class",
        )
        return
    if not (isinstance(owner, type) and issubclass(owner, Task)) or getattr(owner, "name", None) != case.name:
        yield Breach(
            case.ref.target,
            f"it is not a vertebra.Task of the name '{case.name}'",
            "the TaskRef and the class have different names, or the reference names something else",
        )
        return
    if config is not None and not (is_dataclass(config) and issubclass(config, Strict)):
        yield Breach(
            str(case.ref.config),
            "the config is not a dataclass that derives from Strict",
            "write `@dataclass(frozen=True) class Config(Strict)`, with vertebra.config.schema.Strict",
        )
        return
    if config is not None and (open_ones := [one.name for one in fields(config) if not one.init]):
        yield Breach(str(case.ref.config), f"nobody can set {open_ones}", "a field of a config has init=False")
    task = load_task(case.config().tasks[0], case.host)
    if not task.metrics:
        yield Breach(case.ref.target, "it names no metric", "`metrics` is empty; the first picks the best checkpoint")
    try:
        load_metrics(task, case.host)
    except PluginError as error:
        yield Breach(case.ref.target, str(error), "a metric that `metrics` names is missing in register_metrics")
