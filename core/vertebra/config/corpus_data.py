"""What a task that learns from running text does not read of `data`, said when a run is composed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from vertebra.config.schema import DataConfig
from vertebra.tasks.config import CorpusConfig

INSTEAD = {
    "columns": "say by task.column which column holds the text",
    "group_by": "each row is a document of its own",
    "test_fraction": "name a file by data.splits.test, since nothing is cut from the training texts for a test",
    "split_seed": "nothing is drawn: the last windows of the training texts validate",
    "split_by": "nothing is drawn: the last windows of the training texts validate",
    "too_long": "texts are cut into windows of task.window tokens",
}
"""What stands in the place of a setting that is about rows."""


def corpus_refusals(task: str, settings: Any, data: DataConfig) -> Iterator[str]:
    """Yield a line for each setting of `data` that is not at its default, and that the reader of corpora does not read."""
    if not isinstance(settings, CorpusConfig):
        return
    from vertebra.data.corpus import READS  # it brings numpy

    usual = DataConfig()
    for one in fields(DataConfig):
        name, value = one.name, getattr(data, one.name)
        if name in READS or value == getattr(usual, name):
            continue
        said = f"data.columns.{next(iter(value))}" if name == "columns" else f"data.{name}"
        instead = f"set task.column={value['text']}" if name == "columns" and "text" in value else INSTEAD[name]
        yield f"{said} is for tasks that read rows, and task={task} learns from running text: {instead}."
