"""Runs in which each task trains an adapter of its own: folders, loading, bundles, resuming, processes, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from safetensors.torch import load_file

import vertebra
from test_multitask_runs import SMALL, TASKS, TINY, assert_parts_can_be_taken_elsewhere, broken_off, read, refused
from vertebra.cli.main import main
from vertebra.engine.adapters.by_peft import PeftAdapter
from vertebra.engine.evaluate import evaluate
from vertebra.errors import ConfigError
from vertebra.host.manager import create_host

HOST = create_host()
EACH = ["adapter=lora", "trainer.adapters=each"]
QUICK = [
    *SMALL,
    *EACH,
    "trainer.learning_rate=5e-2",
    "trainer.epochs=4",
    "trainer.checkpoint_every=2",
    "trainer.log_every=1",
    "gpu.token_budget=64",
]
BOTH = ("ner", "sentiment")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two tasks with an adapter each, whose steps are of several passes."""
    folder = tmp_path_factory.mktemp("runs") / "each"
    assert main(["train", TASKS, *QUICK, f"hydra.run.dir={folder}"]) == 0
    return folder


def lines_of(place: Path) -> list[Any]:
    return [json.loads(line) for line in (place / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def test_it_says_what_is_trained(run: Path) -> None:
    whole = read(run, "run.json")["adapter"]
    own = {task: read(run / "tasks" / task, "run.json")["adapter"] for task in BOTH}
    assert (whole["name"], whole["adapters"]) == ("lora", 2) and own["ner"]["adapters"] == 1
    assert own["ner"]["trained"] == own["sentiment"]["trained"] == whole["trained"] / 2 > 0
    assert whole["head"] == own["ner"]["head"] + own["sentiment"]["head"]
    assert whole["base"] == own["ner"]["base"] and whole["share"] == whole["trained"] / whole["backbone"]
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "adapter lora for each of 2 tasks: " in report and "No baselines" not in report
    assert "adapter lora: " in (run / "tasks" / "ner" / "report.html").read_text(encoding="utf-8")


def test_each_task_is_loaded_with_its_own_adapter(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = {task: vertebra.load(run, task=task, device="cpu") for task in BOTH}
    learnt = {task: one.model.backbone.adapter.tensors() for task, one in tasks.items()}  # type: ignore[union-attr]
    assert not any((learnt["ner"][name] == one).all() for name, one in learnt["sentiment"].items())
    together = vertebra.load({task: run / "tasks" / task for task in BOTH}, device="cpu")
    for task, one in tasks.items():
        place, expected = run / "tasks" / task, lines_of(run / "tasks" / task)
        inputs = [line["input"] for line in expected]
        assert one.predict(inputs) == together.predict(task, inputs) == [line["prediction"] for line in expected]
        splits, encoded = one.read(one.config.tasks[0].data, HOST)
        found = evaluate(one.model, one.task, "test", splits.rows["test"], encoded("test").features, [], one.devices)
        last = json.loads((place / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        assert last["split"] == "test" and found.loss == pytest.approx(last["loss"], rel=1e-4)
    assert main(["evaluate", str(run), "--task", "ner", "--split", "test", "--output", str(tmp_path / "ner")]) == 0
    metrics = read(run / "tasks" / "ner", "metrics.json")["test"]
    assert read(tmp_path / "ner", "metrics.json")["test"] == pytest.approx(metrics)
    capsys.readouterr()
    assert main(["predict", str(run), "--task", "ner", "--text", "Ada met Bo."]) == 0
    assert json.loads(capsys.readouterr().out)["prediction"] == tasks["ner"].predict(["Ada met Bo."])[0]


def test_a_bundle_and_an_export_have_the_adapter_of_one_task(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, bundle = run / "tasks" / "sentiment", tmp_path / "bundle"
    assert main(["bundle", "export", str(place), str(bundle)]) == 0
    own = run / "model" / "adapter" / "sentiment" / "adapter_model.safetensors"
    assert (bundle / "model" / "adapter" / own.name).read_bytes() == own.read_bytes()
    assert read(bundle, "bundle.json")["adapter"] == read(place, "run.json")["adapter"]
    heads = load_file(bundle / "model" / "heads.safetensors")
    assert {name.partition(".")[0] for name in heads} == set(read(bundle, "model/tasks.json")) == {"sentiment"}
    lines = lines_of(place)
    loaded = vertebra.load(bundle, device="cpu")
    assert loaded.predict([line["input"] for line in lines]) == [line["prediction"] for line in lines]
    assert main(["export", str(place), str(tmp_path / "plain")]) == 0
    assert set(read(tmp_path / "plain", "tasks.json")) == {"sentiment"}
    with mock.patch.object(PeftAdapter, "merges", False):
        (said,) = refused(capsys, "export", str(place), str(tmp_path / "none"))
    assert f"It stands in '{own.parent}', beside" in said
    plain = load_file(tmp_path / "plain" / "model.safetensors")
    before = load_file(run / "model" / "backbone" / "model.safetensors")
    moved = {name for name, one in before.items() if not torch.equal(plain[name], one)}
    assert moved == {f"h.0.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")}


@pytest.mark.slow
def test_a_run_that_was_broken_off_ends_as_it_would_have(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "part"
    broken_off(folder, QUICK)
    assert main(["resume", str(folder)]) == 0
    assert read(folder, "run.json")["weights"] == read(run, "run.json")["weights"]
    names = ["log.jsonl", "evaluations.jsonl", "metrics.json", "model/heads.safetensors"]
    names += [f"model/adapter/{task}/adapter_model.safetensors" for task in BOTH]
    for name in names:
        assert (folder / name).read_bytes() == (run / name).read_bytes(), name


@pytest.mark.slow
def test_a_task_that_writes_has_its_own_adapter_beside_one_that_reads(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = ["backbone.attention=causal", "trainer.max_steps=3", "data.limit=8", "trainer.learning_rate=5e-2"]
    settings += ["summarization.task.max_new_tokens=4", "trainer.baselines=false"]
    assert main(["train", "tasks=[ner,summarization]", *TINY, *EACH, *settings, f"hydra.run.dir={folder}"]) == 0
    assert_parts_can_be_taken_elsewhere(folder, ("ner", "summarization"), tmp_path)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    """Also where a step has no example of a task, whose adapter then stays as it is."""
    line = [*SMALL, *EACH, "trainer.batch_size=4", "sentiment.data.limit=3", "trainer.epochs=2", "trainer.log_every=1"]
    line += ["gpu.precision=fp32", "trainer.baselines=false", "ner.task.dropout=0", "sentiment.task.dropout=0"]
    line += ["backbone.config={n_layer: 1, n_embd: 32, n_head: 2, attn_pdrop: 0, embd_pdrop: 0, resid_pdrop: 0}"]
    log, learnt = {}, {}
    for name, more in {"one": [], "two": ["gpu=ddp", "gpu.device=cpu", "gpu.processes=2"]}.items():
        folder = tmp_path / name
        assert main(["train", TASKS, *line, *more, f"hydra.run.dir={folder}"]) == 0
        log[name] = [json.loads(text) for text in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        learnt[name] = {
            task: load_file(folder / "model" / "adapter" / task / "adapter_model.safetensors") for task in BOTH
        }
    assert any(set(one["losses"]) == {"ner"} for one in log["one"])
    for one, two in zip(log["one"], log["two"], strict=True):
        assert two["losses"] == pytest.approx(one["losses"], rel=1e-3)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)
    for task, tensors in learnt["one"].items():
        for name, one in tensors.items():
            assert float((learnt["two"][task][name] - one).abs().max()) < 1e-3, (task, name)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ([], "trainer.adapters=each does not go with adapter=none: tasks with an adapter each share a pass"),
        (["adapter=dora"], "trainer.adapters=each does not go with adapter=dora: "),
        (["adapter=prefix"], "trainer.adapters=each does not go with adapter=prefix: "),
        (["backbone.freeze=true"], "trainer.adapters=each does not go with adapter=frozen: "),
        (["adapter=lora", "trainer.weighting=uncertainty"], "trainer.weighting=uncertainty does not go with"),
        (["adapter=lora", "ner.weight=2"], "ner.weight=2 does not go with trainer.adapters=each: it weighs tasks"),
        (
            ["adapter=lora", "backbone.gradient_checkpointing=true"],
            "trainer.adapters=each does not go with backbone.gr",
        ),
        (["adapter=lora", "trainer.adapters=own"], "trainer.adapters=\"own\": must be 'shared' or 'each'."),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    line: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (found,) = refused(capsys, "train", TASKS, "trainer.adapters=each", *line)
    assert found.startswith(said)
    assert not list(tmp_path.iterdir())


def test_the_rates_of_few_rows_are_said_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    limits = ["ner.data.limit=8", "sentiment.data.limit=24", "trainer.max_steps=1"]
    assert main(["train", TASKS, *TINY, *EACH, *limits, "sentiment.rate=0.5", f"hydra.run.dir={folder}"]) == 0
    assert "(ner 0.5, sentiment 0.5 of it)" in capsys.readouterr().err
    kept = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert [task["rate"] for task in kept["tasks"]] == [pytest.approx(0.5), 0.5]


def test_tasks_that_share_an_adapter_have_one_rate(capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = refused(capsys, "train", TASKS, "adapter=lora", "ner.rate=0.5")
    assert found.startswith("ner.rate=0.5: tasks that share what is trained learn at one rate")


def test_of_one_task_the_setting_asks_nothing() -> None:
    alone = vertebra.configure(task="ner", adapter="dora", trainer={"adapters": "each"})
    assert alone.trainer.adapters == "each"
    with pytest.raises(ConfigError, match="does not go with adapter=dora"):
        vertebra.configure(tasks=["ner", "qa"], adapter="dora", trainer={"adapters": "each"})
