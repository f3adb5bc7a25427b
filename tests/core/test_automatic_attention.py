"""What `backbone.attention=auto` comes to: what the task prefers, as far as the weights know it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import vertebra
from vertebra.config.schema import BackboneConfig
from vertebra.engine.loading import load_backbone
from vertebra.engine.sources import OF_RUN, nano
from vertebra.host.manager import create_host

HOST = create_host()


def attention_of(prefer: Any = "bidirectional", **settings: Any) -> Any:
    return load_backbone(BackboneConfig(**settings), HOST, prefer=prefer).info.attention


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "bidirectional"),
        ({"attention": "causal"}, "causal"),
        ({"attention": 0.5}, 0.5),
        ({"prefer": "causal"}, "causal"),
        ({"freeze": True}, "bidirectional"),
        ({"packing": "padded"}, "bidirectional"),
        ({"init": "random"}, "bidirectional"),
        ({"init": "random", "prefer": "causal"}, "causal"),
    ],
)
def test_nanos_weights_look_as_suits_the_task(settings: dict[str, Any], expected: Any) -> None:
    assert attention_of(**settings) == expected


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (None, "causal"),
        (0.5, 0.5),
        ("bidirectional", "bidirectional"),
        ("sideways", "causal"),
        ([], "causal"),
        ("either", "bidirectional"),
    ],
)
def test_other_weights_are_read_as_their_configuration_says(tmp_path: Path, written: Any, read: Any) -> None:
    folder = shutil.copytree(nano(BackboneConfig()).location, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | ({OF_RUN: written} if written is not None else {})))
    for freeze in (False, True):
        assert attention_of(name="hf", path=str(folder), freeze=freeze) == read
    assert attention_of("causal", name="hf", path=str(folder)) == "causal"


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (["ner", "sentiment"], "bidirectional"),
        (["ner", "qa"], "bidirectional"),
        (["ner", "summarization"], "causal"),
    ],
)
def test_tasks_of_one_run_share_what_suits_all_of_them(tmp_path: Path, tasks: list[str], expected: Any) -> None:
    members = {task: {"data": {"limit": 8}} for task in tasks}
    config = vertebra.configure(tasks=members, trainer={"max_steps": 1})
    run = vertebra.train(config, tmp_path / "run")
    assert json.loads((run.folder / "run.json").read_text())["backbone"]["attention"] == expected


def test_a_task_goes_on_as_the_one_before_it_read(tmp_path: Path) -> None:
    few: dict[str, Any] = {"data": {"limit": 20}, "trainer": {"max_steps": 2}}
    first = vertebra.train(vertebra.configure(task="ner", **few), tmp_path / "first")
    learnt = {"option": "hf", "path": str(first.folder / "model" / "backbone")}
    second = vertebra.train(vertebra.configure(task="sentiment", backbone=learnt, **few), tmp_path / "second")
    attention = [json.loads((run.folder / "run.json").read_text())["backbone"]["attention"] for run in (first, second)]
    assert attention == ["bidirectional", "bidirectional"]
    assert json.loads((first.folder / "model" / "backbone" / "config.json").read_text())[OF_RUN] == "bidirectional"
