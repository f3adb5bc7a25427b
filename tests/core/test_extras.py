"""The example of everything but tasks that a plugin can bring: each thing is chosen in a run, and does its work there."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from plugin_site import PluginSite
from vertebra.cli.main import main
from vertebra.config.schema import BackboneConfig
from vertebra.engine.loading import load_backbone
from vertebra.host.manager import create_host

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "vertebra-extras"
SHORT = (
    "trainer.trackers=[]",
    "trainer.baselines=false",
    "trainer.max_steps=2",
    "trainer.log_every=1",
    "gpu.threads=1",
    "gpu.precision=fp32",
)
FEW = ("data.options={train: 8, valid: 4, test: 8}", "trainer.batch_size=4")


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginSite]:
    site = PluginSite(tmp_path / "site", monkeypatch)
    site.install_package(EXAMPLE / "vertebra_extras", "extras")
    yield site
    for name in [name for name in sys.modules if name.partition(".")[0] == "vertebra_extras"]:
        del sys.modules[name]


def train(folder: Path, *arguments: str) -> Path:
    assert main(["train", "task=sentiment", *SHORT, *arguments, f"hydra.run.dir={folder}"]) == 0
    return folder


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text(encoding="utf-8"))


def test_it_brings_one_of_each() -> None:
    [plugin] = [one for one in create_host().plugins if one.name == "extras"]
    assert plugin.error is None
    assert set(plugin.registers) == {
        "metric",
        "backbone",
        "adapter",
        "reader",
        "behaviour",
        "command",
        "report section",
        "config package",
    }


def test_a_backbone_a_metric_a_report_section_and_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("backbone=bytes", "trainer.more_metrics=[brier,accuracy]", *FEW)
    first, other = (train(tmp_path / str(seed), *more, f"seed={seed}") for seed in (1, 2))
    assert read(first, "run.json")["backbone"]["name"] == "bytes"
    scores = read(first, "metrics.json")["test"]
    assert list(scores)[-1] == "brier" and list(scores).count("accuracy") == 1
    assert 0 < scores["brier"] < 2
    assert "Score by length" in (first / "report.html").read_text(encoding="utf-8")
    assert "longest" in (first / "report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["disagree", str(first), str(other)]) == 0
    said = capsys.readouterr().out
    rights = [
        {one["id"]: one["right"] for one in lines(run, "predictions.jsonl") if one["split"] == "test"}
        for run in (first, other)
    ]
    differing = [name for name in rights[0] if rights[0][name] != rights[1][name]]
    assert f"{len(differing)} of 8 rows differ." in said
    assert all(f"{name}: " in said for name in differing)
    assert main(["evaluate", str(first)]) == 0
    assert "brier" in capsys.readouterr().out


def lines(run: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / name).read_text(encoding="utf-8").splitlines()]


def test_an_adapter_trains_what_it_leaves_and_nothing_else(tmp_path: Path) -> None:
    run = train(tmp_path / "run", "adapter=biases", "backbone.init=random", *FEW)
    before = load_backbone(
        BackboneConfig(init="random"), create_host(), prefer="bidirectional", seed=1
    ).model.state_dict()
    after = load_file(next((run / "model" / "backbone").glob("*.safetensors")))
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name].to(tensor.dtype))}
    assert changed and all(name.endswith(".bias") for name in changed)


def test_an_adapter_is_refused_for_models_that_it_cannot_adapt(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "task=sentiment", "adapter=biases", "backbone=bytes"]) == 2
    assert "adapter=biases does not go with models of the family 'llama'" in capsys.readouterr().err


def test_a_behaviour_changes_what_training_reads_and_not_what_is_evaluated(tmp_path: Path) -> None:
    common = ("backbone=bytes", "trainer.learning_rate=1e-12", *FEW)
    plain = train(tmp_path / "plain", *common)
    dropped = train(tmp_path / "dropped", "trainer.behaviours=[word_dropout]", *common)
    first, other = (lines(run, "log.jsonl")[0]["loss"] for run in (plain, dropped))
    assert first != other  # from the same weights
    assert read(plain, "metrics.json") == read(dropped, "metrics.json")


def test_a_data_format(tmp_path: Path) -> None:
    file = tmp_path / "reviews.db"
    with closing(sqlite3.connect(file)) as made:
        for table in ("train", "valid", "test"):
            made.execute(f'CREATE TABLE {table} ("text" TEXT, "label" TEXT)')
            rows = [(f"{word} {number}", label) for number in range(4) for word, label in (("good", "+"), ("bad", "-"))]
            made.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)
        made.commit()
    run = train(tmp_path / "run", "backbone=bytes", "data=sentiment/files", "data.format=sqlite", f"data.path={file}")
    assert read(run, "data.json")["splits"]["train"]["rows"] == 8


def test_its_own_tests_pass(site: PluginSite) -> None:
    tests = ("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(EXAMPLE / "tests"))
    done = subprocess.run([sys.executable, *tests], env=site.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_example_is_short() -> None:
    for file in (EXAMPLE / "vertebra_extras").glob("*.py"):
        code = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        assert len(code) <= (45 if file.name == "__init__.py" else 30), file.name
