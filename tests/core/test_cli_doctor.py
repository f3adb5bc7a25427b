"""`vertebra doctor` says what is here, and what stands in the way of what is not; it never fails itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from huggingface_hub import constants
from transformers import AutoTokenizer

from plugin_site import PluginSite
from vertebra.cli.main import main
from vertebra.config.schema import BackboneConfig
from vertebra.data.entries import cache_root
from vertebra.engine.devices import native_bf16
from vertebra.engine.prepacked import can_prepack
from vertebra.engine.products import prefers_onednn
from vertebra.engine.sources import nano
from vertebra.runs.environment import LIBRARIES


def diagnosis(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["doctor", "--json", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def paths_of(found: dict[str, Any]) -> dict[str, tuple[bool, str]]:
    return {one["name"]: (one["on"], one["reason"]) for one in found["fast_paths"]}


def model_folder(folder: Path, family: str) -> Path:
    """Save a tiny model with a tokenizer that fits it."""
    tiny = tiny_models.config(family)
    tiny.vocab_size = 16384
    torch.manual_seed(0)
    tiny_models.AutoModel.from_config(tiny).save_pretrained(folder)
    AutoTokenizer.from_pretrained(nano(BackboneConfig()).location).save_pretrained(folder)
    return folder


def test_the_embedded_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    found = diagnosis(capsys)
    assert set(found["environment"]) >= {"vertebra", "python", "cores", "memory_gib", *LIBRARIES}
    paths = paths_of(found)
    assert paths["packing"][0] and paths["paged generation"][0]
    if not torch.cuda.is_available():
        assert paths["fused layers"] == (True, "layers of the family 'gpt2' written out for the CPU")
        assert paths["prepacked weights"][0] == can_prepack(torch.float32)
        assert paths["bf16"][0] == native_bf16(False)
        assert paths["fp32 products"][0] == prefers_onednn()
        assert paths["varlen attention"] == (False, "it needs a GPU, and torch finds none")
    assert all(reason and "\n" not in reason for _, reason in paths.values())
    assert {one["name"] for one in found["plugins"]} >= {"core", "ner"}
    assert found["caches"] == {"folder": str(cache_root()), "kinds": {}}
    assert found["backbone_error"] is None


def test_another_backbone_and_why_it_is_slower(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = paths_of(diagnosis(capsys, "--backbone", str(model_folder(tmp_path / "bloom", "bloom"))))
    assert paths["packing"] == (
        False,
        "padded batches, because packing was not verified for 'bloom' (its attention cannot be replaced)",
    )
    assert not paths["fused layers"][0] and not paths["varlen attention"][0]


def test_a_backbone_that_cannot_be_loaded_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = diagnosis(capsys, "--backbone", str(tmp_path))
    assert "it has no config.json" in found["backbone_error"]
    assert "bf16" in paths_of(found)
    assert main(["doctor", "--backbone", str(tmp_path)]) == 0
    assert "it has no config.json" in " ".join(capsys.readouterr().out.split())


def test_the_page_names_all_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    site = PluginSite(tmp_path / "site", monkeypatch)
    site.install("broken", "raise RuntimeError('no licence')")
    try:
        assert main(["doctor"]) == 0
    finally:
        site.forget()
    said = capsys.readouterr().out
    for heading in ("Environment", "Fast paths of backbone 'nano'", "Plugins", "Caches", "Hub"):
        assert f"\n{heading}\n" in said
    assert "RuntimeError: no licence" in said
    assert "not asked, because HF_HUB_OFFLINE is set" in said


@pytest.mark.parametrize(("answers", "words"), [(True, "it answers"), (False, "no answer within 3 seconds")])
def test_the_hub(answers: bool, words: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("vertebra.hub.hub_answers", lambda: answers)
    hub = diagnosis(capsys)["hub"]
    assert hub["answers"] is answers
    assert words in hub["said"]
