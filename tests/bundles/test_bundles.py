"""Task bundles: what is in them, and several tasks over one backbone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from made_bundles import ADAPTERS, TEXT, command, train

import vertebra
from vertebra.config.schema import BackboneConfig
from vertebra.engine.adapters.adapter import trained_parameters
from vertebra.engine.loading import find_source
from vertebra.errors import RunError
from vertebra.runs.load import LoadedRun
from vertebra.runs.loaded_tasks import LoadedTasks
from vertebra.tasks.heads import LanguageModelHead

ALL = {
    "ner": "lora",
    "sentiment": "frozen",
    "qa": "rslora",
    "recommendation": "dora",
    "summarization": "lora",
    "translation": "frozen",
}
SUFFIXES = {".safetensors", ".json", ".md"}


def some_rows(run: Path, number: int) -> list[dict[str, Any]]:
    with (run / "predictions.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line)["input"] for line in islice(lines, number)]


def assert_equal(found: Any, expected: Any) -> None:
    """Compare predictions; numbers in them to 1e-5."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_equal(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            assert_equal(*pair)
    else:
        assert found == (pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected)


def assert_like_alone(folders: dict[str, Path], runs: dict[str, Path]) -> LoadedTasks:
    """Load tasks alone and together, and compare what they predict, one by one and in a mixed stream."""
    rows = {task: some_rows(run, 5) for task, run in runs.items()}
    alone = {task: vertebra.load(folders[task]).predict(rows[task]) for task in runs}
    together = vertebra.load(*folders.values())
    assert isinstance(together, LoadedTasks) and list(together.runs) == list(runs)
    mixed = [(task, rows[task][number]) for number in range(5) for task in runs]
    found: dict[str, list[Any]] = {task: [] for task in runs}
    for (task, _), prediction in zip(mixed, together.predict_mixed(mixed), strict=True):
        found[task].append(prediction)
    for task, expected in alone.items():
        assert_equal(found[task], expected)
        assert_equal(together.predict(task, rows[task][:2]), expected[:2])
    return together


def assert_one_backbone(together: LoadedTasks) -> None:
    """Storages of all parameters are those of one backbone and of what was trained, and no others."""
    base = {one.untyped_storage().data_ptr() for one in together.backbone.parameters()}
    own = set()
    trained = set()
    for run in together.runs.values():
        backbone = run.model.backbone
        parts = [backbone, run.model.heads, *([backbone.language_model] if backbone.language_model else [])]
        own |= {one.untyped_storage().data_ptr() for part in parts for one in part.parameters()}
        trained |= {one.untyped_storage().data_ptr() for _, one in trained_parameters(backbone)}
        for head in run.model.heads.values():
            if not isinstance(head, LanguageModelHead):
                trained |= {one.untyped_storage().data_ptr() for one in head.parameters()}
    assert base <= own | base
    assert own - base == trained, "what is not the base's was trained by a task"
    assert not trained & base


def test_tasks_over_one_backbone_predict_what_each_predicts_alone(
    bundles: dict[str, Path], runs: dict[str, Path]
) -> None:
    together = assert_like_alone(bundles, runs)
    assert set(together.mixed.adapters) == {"ner", "sentiment"}, "both share passes"
    assert_one_backbone(together)
    again = vertebra.load({"mine": runs["ner"], "yours": bundles["ner"]})
    assert_equal(again.predict("mine", [TEXT]), again.predict("yours", [TEXT]))
    assert list(vertebra.load([bundles["ner"], runs["ner"]]).runs) == ["ner", "ner-2"]
    with pytest.raises(RunError, match=r"Row 1: There is no task 'neer'\. Did you mean 'ner'\?"):
        together.predict("neer", [TEXT])
    with pytest.raises(RunError, match="Row 1 lacks 'tokens'"):
        together.predict_mixed([("ner", {"text": TEXT})])


def test_a_bundle_is_small_and_has_no_format_that_runs_code(
    bundles: dict[str, Path], base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for task, bundle in bundles.items():
        files = [file for file in bundle.rglob("*") if file.is_file()]
        assert {file.suffix for file in files} <= SUFFIXES
        assert sum(file.stat().st_size for file in files) < 0.1 * (base / "model.safetensors").stat().st_size
        assert str(base) not in (bundle / "README.md").read_text(encoding="utf-8")
        command("bundle", "verify", bundle)
        command("bundle", "inspect", bundle)
        said = capsys.readouterr().out
        assert f"task {task}, " in said and re.search(rf"^adapter +{ADAPTERS[task]}, ", said, re.MULTILINE)
    assert isinstance(vertebra.load(bundles["ner"]), LoadedRun)
    command("predict", bundles["ner"], "--text", TEXT)
    assert json.loads(capsys.readouterr().out)["id"] == "row-1"


def test_predict_with_several_tasks(
    bundles: dict[str, Path],
    base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    refused: Callable[..., str],
) -> None:
    given = [bundles["ner"], bundles["sentiment"]]
    command("predict", *given, "--text", TEXT, "--backbone", base)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["task"] for line in lines] == ["ner", "sentiment"]
    file = tmp_path / "mixed.jsonl"
    rows = [{"task": "sentiment", "text": "Fine."}, {"task": "ner", "tokens": ["Mr", "Orvann"], "id": "mine"}]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    command("predict", *given, "--file", file, "--output", tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(line["id"], line["task"]) for line in lines] == [("row-1", "sentiment"), ("mine", "ner")]
    assert lines[0]["prediction"] == vertebra.load(bundles["sentiment"]).predict(["Fine."])[0]
    file.write_text('{"text": "Fine."}\n')
    assert ".jsonl:1: no task: with several runs" in refused("predict", *given, "--file", file)
    file.write_text('{"task": "nér", "text": "Fine."}\n')
    assert ".jsonl:1: There is no task 'nér'" in refused("predict", *given, "--file", file)


def test_a_bundle_says_where_its_backbone_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, moved = vertebra.create_host(), tmp_path / "moved"
    nano = find_source(BackboneConfig(), host)
    began = Path(shutil.copytree(nano.location, tmp_path / "began"))
    run = train(tmp_path / "run", "sentiment", "frozen", "backbone=hf", f"backbone.path={began}")
    began.rename(moved)
    monkeypatch.chdir(tmp_path)
    for place, name, path, version in (("nano", "nano", None, nano.version), ("moved", "hf", str(moved), None)):
        command("bundle", "export", run, place + "-bundle", "--backbone", place)
        bundle = tmp_path / f"{place}-bundle"
        config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))["backbone"]
        about = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["backbone"]
        assert (config["name"], config.get("path")) == (name, path)
        assert (about["name"], about["version"]) == (name, version)
        command("bundle", "verify", bundle)


@pytest.mark.slow
def test_a_backbone_that_began_with_random_weights_is_shared_from_its_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(
        tmp_path / "first", "ner", "lora", "backbone.init=random", "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}"
    )
    command("bundle", "export", first, tmp_path / "bundle")
    base = first / "model" / "backbone"
    assert f"backbone=hf backbone.path='{base}'" in capsys.readouterr().out
    assert not list((tmp_path / "bundle").rglob("backbone"))
    attention = f"backbone.attention={json.loads((first / 'run.json').read_text())['backbone']['attention']}"
    over = ["backbone=hf", f"backbone.path={base}", attention]
    second = train(tmp_path / "second", "sentiment", "lora", *over)
    folders = {"ner": tmp_path / "bundle", "sentiment": second}
    assert_one_backbone(assert_like_alone(folders, {"ner": first, "sentiment": second}))


# --- all tasks


@pytest.mark.slow
@pytest.mark.parametrize("shared", [ALL, dict.fromkeys(ALL, "lora")], ids=["many adapters", "lora"])
def test_the_first_party_tasks_over_one_backbone(shared: dict[str, str], base: Path, tmp_path: Path) -> None:
    over = ["backbone=hf", f"backbone.path={base}", "trainer.max_steps=4", "data.limit=40"]
    runs = {task: train(tmp_path / "runs" / task, task, adapter, *over) for task, adapter in shared.items()}
    for task, run in runs.items():
        command("bundle", "export", run, tmp_path / task)
    together = assert_like_alone({task: tmp_path / task for task in runs}, runs)
    assert_one_backbone(together)
    shares = {task for task, adapter in shared.items() if adapter in ("lora", "rslora", "frozen")}
    assert set(together.mixed.adapters) == shares - {"summarization", "translation"}
    assert all(one.dtype == torch.float32 for one in together.backbone.parameters())
