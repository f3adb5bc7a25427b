"""Every task that Vertebra brings keeps the promises that are asked of any other plugin."""

from __future__ import annotations

from typing import Any

import pytest

from vertebra.testing import check_task

# What is set here only makes a task learn in fewer steps.
QUICKER: dict[str, dict[str, Any]] = {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "task",
    [
        "answer_selection",
        "classification",
        "lm",
        "mntp",
        "ner",
        "qa",
        "recommendation",
        "sentiment",
        "summarization",
        "translation",
    ],
)
def test_a_task_keeps_every_promise(task: str) -> None:
    check_task(task, **QUICKER.get(task, {}))
