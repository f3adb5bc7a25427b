"""Task bundles: what is in them, what is refused by name, and several tasks over one backbone."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file, save_file

import vertebra
from strangers import Payload, sign
from vertebra.cli.main import main
from vertebra.config.schema import BackboneConfig
from vertebra.engine.adapters.adapter import trained_parameters
from vertebra.engine.checkpoints import MANIFEST
from vertebra.engine.loading import find_source, load_backbone
from vertebra.engine.model import TaskModel
from vertebra.errors import RunError
from vertebra.runs.load import LoadedRun
from vertebra.runs.loaded_tasks import LoadedTasks
from vertebra.runs.saved import save_backbone
from vertebra.tasks.heads import LanguageModelHead

SMALL = {"n_layer": 2, "n_embd": 32, "n_head": 2}
SETTINGS = [
    *("gpu=cpu", "gpu.threads=1", "gpu.precision=fp32", "data.limit=16", "trainer.max_steps=1", "trainer.batch_size=8"),
    *("trainer.trackers=[]", "trainer.baselines=false"),
]
ADAPTERS = {"ner": "lora", "sentiment": "frozen"}
"""For the fast tests; the slow ones have all tasks, those that write among them."""
ALL = {
    "ner": "lora",
    "sentiment": "frozen",
    "qa": "rslora",
    "recommendation": "dora",
    "summarization": "lora",
    "translation": "frozen",
}
TEXT = "Mr Orvann visited Talbek."
SUFFIXES = {".safetensors", ".json", ".md"}


def command(*arguments: object) -> None:
    """Run the command line in this process; it must succeed."""
    assert main([str(argument) for argument in arguments]) == 0


def make_base(folder: Path, seed: int = 7, **shape: int) -> Path:
    """Write a model folder with weights, as if they had been trained."""
    config = BackboneConfig(init="random", config=SMALL | shape)
    backbone = load_backbone(config, vertebra.create_host(), seed=seed, language_model=True)
    save_backbone(TaskModel(backbone, {}), folder)
    return folder


def train(folder: Path, task: str, adapter: str, *more: str) -> Path:
    short = ["task.max_new_tokens=4", "data.limit=8"] if task in ("summarization", "translation") else []
    command("train", f"task={task}", f"adapter={adapter}", *SETTINGS, *short, *more, f"hydra.run.dir={folder}")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("models") / "shared")


@pytest.fixture(scope="module")
def runs(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    over = ["backbone=hf", f"backbone.path={base}"]
    return {task: train(folder / task, task, adapter, *over) for task, adapter in ADAPTERS.items()}


@pytest.fixture(scope="module")
def bundles(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    for task, run in runs.items():
        command("bundle", "export", run, folder / task)
    return {task: folder / task for task in runs}


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
    assert "row 1 names no task: with several runs" in refused("predict", *given, "--file", file)
    file.write_text('{"task": "nér", "text": "Fine."}\n')
    assert "row 1: There is no task 'nér'" in refused("predict", *given, "--file", file)


# --- what is refused


@pytest.fixture
def bundle(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of a bundle, to be tampered with."""
    return Path(shutil.copytree(bundles["ner"], tmp_path / "bundle"))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model/adapter/adapter_model.safetensors", "the adapter"),
        ("model/heads.safetensors", "the head"),
        ("model/tasks.json", "what the task learnt (its labels)"),
        ("config.json", "the configuration"),
        ("bundle.json", "the description"),
        ("metrics.json", "the metrics"),
        ("README.md", "the model card"),
    ],
)
def test_a_broken_part_is_refused_by_its_name(
    name: str, part: str, bundle: Path, bundles: dict[str, Path], refused: Callable[..., str]
) -> None:
    file = bundle / name
    whole = file.read_bytes()
    other = bundles["sentiment"] / name  # which is frozen, and has no adapter
    swapped = [other.read_bytes()] if other.exists() else []
    for content in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), *swapped):
        assert content != whole
        file.write_bytes(content)
        for line in ("verify", "load"):
            said = (
                refused("bundle", "verify", bundle) if line == "verify" else refused("predict", bundle, "--text", TEXT)
            )
            if name != "bundle.json" or "is not JSON" not in said:
                assert f"{part} ({name}) is not what manifest.json says" in said
    file.unlink()
    if name != "bundle.json":
        assert f"{part} ({name}) is missing" in refused("predict", bundle, "--text", TEXT)
    else:
        assert "is no task bundle: it has no bundle.json" in refused("bundle", "verify", bundle)


def test_parts_of_another_task_are_refused_though_their_hashes_fit(
    bundle: Path, bundles: dict[str, Path], refused: Callable[..., str]
) -> None:
    for name, said in (
        ("model/tasks.json", "does not hold what task 'ner' learnt"),
        ("model/heads.safetensors", "they miss ner.1.bias and 1 more. They were made by another task"),
    ):
        whole = (bundle / name).read_bytes()
        (bundle / name).write_bytes((bundles["sentiment"] / name).read_bytes())
        sign(bundle)
        assert said in refused("bundle", "verify", bundle)
        (bundle / name).write_bytes(whole)


@pytest.fixture
def payload(tmp_path: Path) -> Iterator[bytes]:
    """A pickle that writes a file, which nothing may do."""
    marker = tmp_path / "executed"
    yield pickle.dumps(Payload(marker))
    assert not marker.exists()


def test_no_pickle_is_ever_loaded(bundle: Path, payload: bytes, refused: Callable[..., str]) -> None:
    for name in ("model/heads.safetensors", "model/adapter/adapter_model.safetensors"):
        whole = (bundle / name).read_bytes()
        (bundle / name).write_bytes(payload)
        sign(bundle)
        assert name.split("/")[-1] in refused("bundle", "verify", bundle)
        (bundle / name).write_bytes(whole)
        sign(bundle)
    more = ("adapter_model.bin", "model/adapter/adapter_model.bin", "model/heads.pt", "pytorch_model.bin")
    for name in more:
        (bundle / name).write_bytes(payload)
    command("predict", bundle, "--text", TEXT)
    assert f"holds '{more[0]}', which is no part of it" in refused("bundle", "verify", bundle)


def test_what_leads_out_of_the_folder_is_refused(bundle: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    file = bundle / "model" / "heads.safetensors"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert "the head (model/heads.safetensors) is not what manifest.json says" in refused("bundle", "verify", bundle)
    (bundle / MANIFEST).write_text(json.dumps({"files": {"../elsewhere": "0"}}))
    assert "its manifest.json, which has the hash of every part, is missing or damaged" in refused(
        "bundle", "verify", bundle
    )


def test_another_backbone_is_refused_with_the_reason(
    bundle: Path, bundles: dict[str, Path], base: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    def line(place: Path) -> str:
        return refused("bundle", "verify", bundle, "--backbone", place)

    moved = Path(shutil.copytree(base, tmp_path / "moved"))
    command("bundle", "verify", bundle, "--backbone", moved)
    weights = load_file(moved / "model.safetensors")
    weights["transformer.h.0.ln_1.weight"] = weights["transformer.h.0.ln_1.weight"] + 1e-3
    save_file(weights, tmp_path / "changed", metadata={"format": "pt"})
    (tmp_path / "changed").replace(moved / "model.safetensors")
    assert "was trained on another backbone than 'hf' is now: its weights" in line(moved)
    with pytest.raises(RunError, match=r"'ner' in .* was trained on another backbone than 'hf' is now"):
        vertebra.load([bundle, bundles["sentiment"]], backbone=moved)
    deeper = make_base(tmp_path / "deeper", n_layer=1)
    assert "made for another backbone than 'hf': layers is 1, and 2 where it was trained" in line(deeper)
    cased = Path(shutil.copytree(base, tmp_path / "cased"))
    tokenizer = json.loads((cased / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["normalizer"] = {"type": "Lowercase"}
    (cased / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    assert "made for another tokenizer than that of 'hf': its vocabulary, or how it cuts texts" in line(cased)


def test_what_cannot_be_asked_of_a_load_is_refused_before_anything_is_loaded(bundles: dict[str, Path]) -> None:
    with (
        mock.patch("vertebra.runs.load.load_backbone", side_effect=AssertionError),
        mock.patch("vertebra.runs.loaded_tasks.load_backbone", side_effect=AssertionError),
    ):
        for folders in (bundles["ner"], list(bundles.values())):
            with pytest.raises(RunError, match="device='gpu': it is one of auto, cpu, cuda"):
                vertebra.load(folders, device="gpu")
        for several in (bundles, list(bundles.values())):
            with pytest.raises(RunError, match="task='ner' names one of a run of several tasks: give that run alone"):
                vertebra.load(several, task="ner")  # type: ignore[call-overload]  # as no checked code would


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


def test_another_output_matrix_is_refused_where_the_task_writes(
    runs: dict[str, Path], base: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    def with_output(name: str, factor: float) -> Path:
        """Return the backbone of the tasks that read, with an output matrix of its own."""
        folder = Path(shutil.copytree(base, tmp_path / name))
        weights = load_file(folder / "model.safetensors")
        weights["lm_head.weight"] = weights["transformer.wte.weight"] * factor
        save_file(weights, tmp_path / "changed", metadata={"format": "pt"})
        (tmp_path / "changed").replace(folder / "model.safetensors")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}), encoding="utf-8")
        return folder

    one, other = with_output("one", 2.0), with_output("other", 3.0)
    over = ["backbone=hf", f"backbone.path={one}"]
    written = train(tmp_path / "written", "summarization", "lora", *over)
    assert "the output matrix of its language model has changed" in refused(
        "predict", written, "--text", TEXT, "--backbone", other
    )
    with pytest.raises(RunError, match="the output matrix of its language model has changed"):
        vertebra.load([runs["ner"], written], backbone=other)
    tasks = vertebra.load([runs["ner"], written], backbone=one)
    assert tasks.predict("ner", [TEXT]) == vertebra.load(runs["ner"]).predict([TEXT]), "who reads needs no such matrix"
    # One of an earlier version does not say which matrix it had.
    state = json.loads((written / "run.json").read_text(encoding="utf-8"))
    assert state["adapter"].pop("output")
    (written / "run.json").write_text(json.dumps(state), encoding="utf-8")
    assert vertebra.load(written, backbone=other).predict([TEXT])


def test_what_has_no_backbone_in_common_is_refused_before_anything_is_loaded(
    bundles: dict[str, Path], runs: dict[str, Path], tmp_path: Path, refused: Callable[..., str]
) -> None:
    def another(base: str | None) -> Path:
        """Return a run whose folder says that it was trained on another backbone, or trained all of it."""
        run = Path(shutil.copytree(runs["sentiment"], tmp_path / f"run-{base}"))
        state = json.loads((run / "run.json").read_text(encoding="utf-8"))
        state["adapter"]["base"] = base
        (run / "run.json").write_text(json.dumps(state), encoding="utf-8")
        return run

    other, whole = another("0" * 64), another(None)
    with mock.patch("vertebra.runs.loaded_tasks.load_backbone", side_effect=AssertionError):
        with pytest.raises(RunError, match=r"they cannot share one\. Train them over one folder"):
            vertebra.load(bundles["ner"], other)
        with pytest.raises(RunError, match="trained its whole backbone, which no other task can share"):
            vertebra.load(bundles["ner"], whole)
        with pytest.raises(RunError, match="There is nothing to load"):
            vertebra.load([])
    said = refused("bundle", "export", whole, tmp_path / "none")
    assert "trained its whole backbone" in said and "vertebra export" in said
    assert not (tmp_path / "none").exists()
    assert "exists already" in refused("bundle", "export", other, whole)
    assert "is no task bundle" in refused("bundle", "inspect", other)


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
