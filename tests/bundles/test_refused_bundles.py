"""Task bundles that are refused, by the name of the broken part or with the reason why they do not fit."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from made_bundles import TEXT, command, train
from safetensors.torch import load_file, save_file

import vertebra
from saved_backbone import make_base
from strangers import Payload, sign
from vertebra.engine.checkpoints import MANIFEST
from vertebra.errors import RunError


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
