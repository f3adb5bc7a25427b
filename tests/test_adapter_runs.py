"""Whole runs with adapters: what they learn, what they leave on disk, and what can be done with that."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

import vertebra
from vertebra.cli.main import main
from vertebra.config.schema import BackboneConfig
from vertebra.engine.loading import load_backbone
from vertebra.engine.packing import pack
from vertebra.engine.trainer import Trainer

SMALL = ("backbone.init=random", "backbone.config={n_layer: 2, n_embd: 32, n_head: 2}")
SETTINGS = [
    "gpu=cpu",
    "gpu.threads=1",
    "gpu.precision=fp32",
    "data.limit=40",
    "trainer.max_steps=8",
    "trainer.evaluate_every=4",
    "trainer.batch_size=10",
    "trainer.trackers=[]",
    "trainer.baselines=false",
    "trainer.log_every=1",
]
TEXT = "Mr Orvann visited Talbek."


def command(*arguments: object) -> None:
    """Run the command line in this process; it must succeed."""
    assert main([str(argument) for argument in arguments]) == 0


def train(folder: Path, *settings: str, task: str = "ner") -> Path:
    command("train", f"task={task}", *SETTINGS, *settings, f"hydra.run.dir={folder}")
    return folder


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def hashes(folder: Path) -> dict[str, str]:
    files = [
        *folder.joinpath("model").rglob("*.safetensors"),
        *(folder / name for name in ("log.jsonl", "metrics.json")),
    ]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with weights, as if they had been trained."""
    folder = tmp_path_factory.mktemp("models") / "small"
    config = BackboneConfig(init="random", config={"n_layer": 2, "n_embd": 32, "n_head": 2})
    backbone = load_backbone(config, vertebra.create_host(), seed=7, language_model=True)
    assert backbone.language_model is not None
    backbone.model.config._attn_implementation = None
    backbone.language_model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def by_lora(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with LoRA on a backbone that has weights."""
    folder = tmp_path_factory.mktemp("runs") / "lora"
    return train(folder, "adapter=lora", "adapter.rank=4", "backbone=hf", f"backbone.path={pretrained}")


@pytest.mark.parametrize(
    "name", ["lora", *(pytest.param(one, marks=pytest.mark.slow) for one in ("adalora", "prefix", "top_layers"))]
)
def test_a_run_learns_and_all_of_it_comes_back(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["adapter.layers=1"] if name == "top_layers" else []
    more += ["trainer.max_steps=16", "trainer.learning_rate=2e-2"]
    run = train(tmp_path / "run", f"adapter={name}", *more, *SMALL)
    assert f"adapter {name}: " in capsys.readouterr().err
    losses = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    about = read(run, "run.json")["adapter"]
    assert about["name"] == name
    assert 0 < about["trained"] < 0.1 * about["backbone"]
    assert f"adapter {name}: " in (run / "report.html").read_text(encoding="utf-8")
    # The base began with random weights: it stands there as it was.
    config = vertebra.configure(
        task="ner", backbone={"init": "random", "config": {"n_layer": 2, "n_embd": 32, "n_head": 2}}
    )
    before = load_backbone(config.backbone, vertebra.create_host(), prefer="bidirectional", seed=config.seed)
    saved = load_file(run / "model" / "backbone" / "model.safetensors")
    changed = [key for key, weight in before.model.state_dict().items() if not torch.equal(saved[key], weight)]
    assert bool(changed) == (name == "top_layers")
    command("evaluate", run, "--output", tmp_path / "again")
    assert read(tmp_path / "again", "metrics.json") == read(run, "metrics.json")
    assert (tmp_path / "again" / "predictions.jsonl").read_text() == (run / "predictions.jsonl").read_text()


def test_no_second_copy_of_a_backbone_that_has_weights(by_lora: Path, tmp_path: Path) -> None:
    assert not (by_lora / "model" / "backbone").exists()
    written = sum(file.stat().st_size for file in (by_lora / "model").rglob("*") if file.is_file())
    about = read(by_lora, "run.json")["adapter"]
    assert written < 4 * (about["trained"] + about["head"]) + 20_000
    command("evaluate", by_lora, "--output", tmp_path / "again")
    assert read(tmp_path / "again", "metrics.json") == read(by_lora, "metrics.json")


def test_export_makes_the_adapter_part_of_the_weights(by_lora: Path, tmp_path: Path) -> None:
    command("export", by_lora, tmp_path / "exported")
    model = AutoModel.from_pretrained(tmp_path / "exported").eval()
    loaded = vertebra.load(by_lora)
    (features,) = loaded.encode([{"id": "1", **loaded.task.row_from_text(TEXT)}])
    batch = pack([features], lambda _: None)
    causal = loaded.model.backbone.info.attention == "causal"
    with torch.no_grad():
        expected = loaded.model.backbone(batch)
        hidden_TD = model(batch.input_ids_T[None], is_causal=causal).last_hidden_state[0]
    torch.testing.assert_close(hidden_TD[batch.positions_P], expected, rtol=1e-5, atol=1e-5)


def test_another_backbone_is_refused(by_lora: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, original = pretrained / "model.safetensors", pretrained / "original"
    file.rename(original)  # not written over: it may be mapped into memory
    try:
        weights = load_file(original)
        save_file({name: weight + 1e-3 for name, weight in weights.items()}, file, metadata={"format": "pt"})
        assert main(["predict", str(by_lora), "--text", TEXT]) == 2
        assert "was trained on another backbone than 'hf' is now" in capsys.readouterr().err
    finally:
        original.replace(file)


def test_what_does_not_merge_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path / "run", "adapter=bottleneck", *SMALL)
    assert main(["export", str(run), str(tmp_path / "exported")]) == 2
    assert "adapter=bottleneck learnt cannot become part of" in capsys.readouterr().err
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("name", ["lora", pytest.param("adalora", marks=pytest.mark.slow)])
def test_a_resumed_run_is_the_one_that_was_not_stopped(name: str, tmp_path: Path) -> None:
    settings = [f"adapter={name}", "adapter.dropout=0.1", *SMALL, "trainer.checkpoint_every=3"]
    whole = train(tmp_path / "whole", *settings)
    step = Trainer._step

    def breaks_off(self: Trainer) -> None:
        step(self)
        if self.progress.step == 5:
            raise KeyboardInterrupt

    with mock.patch.object(Trainer, "_step", breaks_off):
        assert main(["train", "task=ner", *SETTINGS, *settings, f"hydra.run.dir={tmp_path / 'run'}"]) == 130
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000004" / "model.safetensors"
    assert not [key for key in load_file(checkpoint) if "wte" in key], "what is not trained is in no checkpoint"
    command("resume", tmp_path / "run")
    assert hashes(tmp_path / "run") == hashes(whole)


def test_a_task_that_writes_texts(pretrained: Path, tmp_path: Path) -> None:
    settings = ["backbone=hf", f"backbone.path={pretrained}", "task.max_new_tokens=8", "trainer.max_steps=2"]
    for name in ("lora", "frozen"):
        run = train(tmp_path / name, f"adapter={name}", *settings, task="summarization")
        assert not (run / "model" / "backbone").exists()
        command("evaluate", run, "--output", tmp_path / f"{name}-again")
        again, before = ((folder / "predictions.jsonl").read_text() for folder in (tmp_path / f"{name}-again", run))
        assert again == before
        command("export", run, tmp_path / f"{name}-exported")
        assert (tmp_path / f"{name}-exported" / "model.safetensors").exists()


def test_a_sweep_over_an_adapters_settings(tmp_path: Path) -> None:
    sweep = ["--multirun", "adapter=lora", "adapter.rank=2,4", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    command("train", "task=ner", *SETTINGS, *SMALL, "trainer.max_steps=1", *sweep)
    counts = [read(path.parent, "run.json")["adapter"]["trained"] for path in (tmp_path / "sweep").rglob("run.json")]
    assert sorted(counts) == [sorted(counts)[0], 2 * sorted(counts)[0]]


def test_a_strangers_adapter_is_read_as_tensors_alone(
    by_lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(by_lora, tmp_path / "run"))
    file = run / "model" / "adapter" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    assert main(["predict", str(run), "--text", TEXT]) == 2
    assert "is damaged: its files do not fit their hashes" in capsys.readouterr().err
    manifest = run / "model" / "manifest.json"
    document = json.loads(manifest.read_text())
    document["files"]["adapter/adapter_model.safetensors"] = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(document))
    assert main(["predict", str(run), "--text", TEXT]) == 2
    assert "Cannot read the adapter in" in capsys.readouterr().err
