"""Elastic weight consolidation over whole runs: a second task learns, and the weights that matter to the first one stay."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from process_runs import TWO, read, until
from test_forgetting import FIRST, SMALL, distance, trained
from vertebra.cli.main import main
from vertebra.config.options import configure
from vertebra.config.schema import GPUConfig, TrainerConfig
from vertebra.engine.devices import set_up
from vertebra.errors import ConfigError, RunError
from vertebra.host.manager import create_host
from vertebra.runs.consolidation import WEIGHTS, find_importance
from vertebra.runs.folder import RunFolder

STEPS = ["trainer.max_steps=6", "trainer.learning_rate=5e-3", "trainer.evaluate_every=6"]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("first") / "run", *FIRST, "data.limit=12")


def second(first: Path, *more: str) -> list[str]:
    backbone = ["backbone=hf", f"backbone.path={first / 'model' / 'backbone'}"]
    return ["task=sentiment", *backbone, *SMALL, "data.limit=12", *STEPS, *more]


def kept(first: Path, *more: str) -> list[str]:
    return second(first, "trainer.ewc=1e3", f"trainer.ewc_from={first}", *more)


def test_the_first_tasks_weights_stay_and_what_they_are_worth_is_kept(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    free, held = trained(tmp_path / "free", *second(first)), tmp_path / "held"
    capsys.readouterr()
    trained(held, *kept(first, "trainer.ewc_rows=8"))
    assert "8 training rows of task 'ner'" in capsys.readouterr().err

    fisher = load_file(held / "fisher" / WEIGHTS)
    start, free_end, held_end = (
        load_file(one / "model" / "backbone" / "model.safetensors") for one in (first, free, held)
    )
    assert {name.removeprefix("model.") for name in fisher} == {name.removeprefix("transformer.") for name in start}
    moved = {
        way: sum(float((fisher[f"model.{name}"] * (end[name] - start[name]) ** 2).sum()) for name in start)
        for way, end in (("free", free_end), ("held", held_end))
    }
    assert 0 < moved["held"] < moved["free"]
    assert distance(held, first) > 0
    assert any("8 rows of task 'ner'" in note for note in read(held, "run.json")["notes"])


@pytest.mark.slow
def test_a_resumed_run_reads_what_was_kept_and_not_the_first_run_again(first: Path, tmp_path: Path) -> None:
    mine, killed = tmp_path / "first", tmp_path / "killed"
    shutil.copytree(first, mine)
    arguments = kept(mine, "trainer.checkpoint_every=2", "trainer.max_steps=60", "trainer.evaluate_every=60")
    whole = trained(tmp_path / "whole", *arguments)
    command = [sys.executable, "-m", "vertebra", "train", *arguments, f"hydra.run.dir={killed}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, text=True)
    until(lambda: len(list(killed.glob("checkpoints/step-*"))) > 1, process)
    process.kill()
    process.communicate()
    (mine / "model" / "heads.safetensors").unlink()
    assert main(["resume", str(killed)]) == 0
    assert distance(killed, whole) == 0
    assert read(killed, "run.json")["key"] == read(whole, "run.json")["key"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["lm", "recommendation"])
def test_what_matters_to_a_corpus_or_a_catalogue_is_found_too(task: str, tmp_path: Path) -> None:
    """Their training rows are made when they are asked for, or completed by what they are compared with."""
    model = ["backbone.init=random", "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}"]
    steps = ["data.limit=12", "trainer.max_steps=2"]
    earlier = trained(tmp_path / "earlier", f"task={task}", *model, *SMALL, *steps)
    held = trained(tmp_path / "held", *kept(earlier, "trainer.max_steps=2"))
    fisher = load_file(held / "fisher" / WEIGHTS)
    assert all(bool((one >= 0).all()) for one in fisher.values())
    assert sum(float(one.sum()) for one in fisher.values()) > 0


@pytest.mark.slow
def test_processes_share_the_rows(first: Path, tmp_path: Path) -> None:
    one = trained(tmp_path / "one", *kept(first, "trainer.max_steps=2"))
    two = trained(tmp_path / "two", *kept(first, "trainer.max_steps=2"), *TWO)
    expected = load_file(one / "fisher" / WEIGHTS)
    for name, found in load_file(two / "fisher" / WEIGHTS).items():
        torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-12)


def test_a_run_that_does_not_go_on_with_the_earlier_ones_backbone_is_refused(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(first / "model" / "backbone", changed)
    weights = load_file(changed / "model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name] + 1e-3
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    folder = tmp_path / "run"
    for backbone, reason in (
        (["backbone=hf", f"backbone.path={changed}"], "its weights differ"),
        (["backbone=nano", "backbone.path=null"], "its shapes or its vocabulary differ"),
    ):
        capsys.readouterr()
        assert main(["train", *kept(first), *backbone, f"hydra.run.dir={folder}"]) == 2  # the folder stays free
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert reason in said and f"backbone.path='{first / 'model' / 'backbone'}'" in said


def test_what_is_kept_is_not_trusted_where_it_is_damaged(first: Path, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    config = TrainerConfig(ewc=1.0, ewc_from=str(first))
    (run.path / "fisher").mkdir()
    devices = set_up(GPUConfig(device="cpu", threads=1))
    with pytest.raises(RunError, match="is damaged"):
        find_importance(config, run, None, devices, create_host())  # type: ignore[arg-type]  # it comes to no backbone
    run.update_state(status="failed")
    run.vacate()
    assert not (run.path / "fisher").exists()


def test_what_a_pull_by_importance_does_not_go_with_is_said_at_once(first: Path, tmp_path: Path) -> None:
    def of(changes: dict[str, Any]) -> str:
        trainer = {"ewc": 2.0, "ewc_from": str(first), **changes.pop("trainer", {})}
        with pytest.raises(ConfigError) as error:
            configure(**{"task": "ner", "trainer": trainer, **changes})
        return str(error.value)

    together = "trainer.ewc and trainer.ewc_from are given together"
    assert together in of({"trainer": {"ewc": 0.0}}) and together in of({"trainer": {"ewc_from": None}})
    assert "they stay there" in of({"adapter": "lora"}) and "they stay there" in of({"backbone": {"freeze": True}})
    assert "has learnt nothing to keep" in of({"backbone": {"init": "random"}})
    assert "gpu.shard=true does not go with trainer.ewc=2" in of({"gpu": {"shard": True}})
    several = Path(shutil.copytree(first, tmp_path / "several"))
    RunFolder(several).update_state(tasks=["ner", "qa"])
    assert "has the tasks ner, qa: name one of them" in of({"trainer": {"ewc_from": str(several)}})
    assert "There is no run folder" in of({"trainer": {"ewc_from": str(tmp_path / "none")}})

    # Of an earlier run, the configuration says whether it trained its backbone.
    adapted = tmp_path / "adapted"
    shutil.copytree(first, adapted)
    document = RunFolder(adapted).read_config()
    for adapter in ("frozen", "lora"):
        RunFolder(adapted).write_config({**document, "adapter": {"name": adapter}})
        assert f"trained an adapter or a head alone (adapter={adapter})" in of({"trainer": {"ewc_from": str(adapted)}})
