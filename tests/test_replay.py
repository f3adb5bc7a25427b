"""Replay: a second task is learnt with some rows of the first one among its own, from the first run's backbone and head."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import vertebra
from process_runs import lines, read
from test_forgetting import FIRST, SMALL, trained
from vertebra.cli.main import main
from vertebra.config.members import compose_run
from vertebra.errors import ConfigError
from vertebra.host.manager import create_host
from vertebra.runs.folder import RunFolder
from vertebra.runs.load import open_saved
from vertebra.runs.prepare import fingerprint_of

HOST = create_host()
UNMOVED = ["trainer.epochs=1", "trainer.batch_size=4", "trainer.learning_rate=1e-12", "trainer.log_every=1"]
"""Steps that change nothing, after which a run's weights are those that it began with."""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("first") / "my run", *FIRST, "data.limit=12", "task.dropout=0.2")


def replayed(first: Path, *more: str) -> list[str]:
    backbone = ["backbone=hf", f"backbone.path={first / 'model' / 'backbone'}", "backbone.attention=bidirectional"]
    own = ["ner.share=0.25", f"ner.head_from={first}", "ner.task.dropout=0.2"]
    return ["tasks=[sentiment,ner]", *backbone, *SMALL, "data.limit=12", *own, *more]


def heads(run: Path) -> dict[str, torch.Tensor]:
    return {
        name: one for name, one in load_file(run / "model" / "heads.safetensors").items() if name.startswith("ner.")
    }


def refused(arguments: Sequence[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the last line of a run that is refused."""
    capsys.readouterr()
    assert main(["train", *arguments, f"hydra.run.dir={folder}"]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_the_first_task_goes_on_where_it_was_and_keeps_its_share(first: Path, tmp_path: Path) -> None:
    # Of so few rows as these the task alone would learn fewer labels than its head has.
    run = trained(tmp_path / "run", *replayed(first, *UNMOVED, "ner.data.limit=2"))
    before = heads(first)
    assert before.keys() == heads(run).keys()
    for name, one in heads(run).items():
        torch.testing.assert_close(one, before[name], rtol=0, atol=1e-9)
    assert read(run / "model", "tasks.json")["ner"] == read(first / "model", "tasks.json")["ner"]
    # An epoch sees each of the 12 other rows once, and its own make it one of 16.
    assert len(lines(run, "log.jsonl")) == 16 / 4
    texts = ["Marie Curie was born in Warsaw.", "The bank of England is in London."]
    again = vertebra.load(run, task="ner", device="cpu").predict(texts)
    assert again == vertebra.load(first, device="cpu").predict(texts)
    assert main(["forgetting", str(first), str(run), "--device", "cpu"]) == 0


def test_a_head_that_does_not_fit_is_refused(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = [one for one in replayed(first) if one != "ner.task.dropout=0.2"]
    with pytest.raises(ConfigError, match=r"trained with other settings. Set ner.task.dropout=0.2.$"):
        compose_run(others, HOST)
    with pytest.raises(ConfigError, match="has no task 'sentiment'; it has ner"):
        compose_run([*others, "ner.head_from=null", f"sentiment.head_from='{first}'"], HOST)

    folder = tmp_path / "run"
    said = refused(replayed(first, "backbone.attention=causal"), folder, capsys)
    assert "reads a backbone with attention=bidirectional, and this one has causal" in said
    narrow = [
        "backbone=nano",
        "backbone.path=null",
        "backbone.init=random",
        "backbone.config={n_layer: 1, n_embd: 16, n_head: 2}",
    ]
    said = refused(replayed(first, *narrow), folder, capsys)
    assert re.search(
        r"Cannot read the heads in '.*': ner\.\d\.weight is \d+×\d+ there and \d+×16 here\. .*: train again\.", said
    )
    damaged = tmp_path / "damaged"
    shutil.copytree(first, damaged)
    (damaged / "model" / "heads.safetensors").write_bytes(b"no weights")
    assert "is damaged" in refused(replayed(first, f"ner.head_from={damaged}"), folder, capsys)


def test_a_head_is_the_same_wherever_it_is(first: Path, tmp_path: Path) -> None:
    moved, other = tmp_path / "moved", tmp_path / "other"
    for copy in (moved, other):
        shutil.copytree(first, copy)
    file = other / "model" / "heads.safetensors"
    save_file({name: one + 1 for name, one in load_file(file).items()}, file)
    found = [fingerprint_of(replace(open_saved(first, HOST), folder=RunFolder(one))) for one in (first, moved, other)]
    assert found[0] == found[1] != found[2]
