"""Pretraining beside run_clm.py's Trainer: the same windows, the same numbers, the same tokens counted."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from vertebra.errors import ConfigError
from vertebra_speed import windows as work
from vertebra_speed.agreement_of_language_models import compare_pretraining
from vertebra_speed.options import Data, find_corpus
from vertebra_speed.own.pretrain import VertebraPretraining
from vertebra_speed.peers.pretrain import PretrainingPeer
from vertebra_speed.windows import WINDOW, Windows, prepare


def documents(folder: Path) -> Path:
    """Write texts whose documents are longer and shorter than a window."""
    file = folder / "texts.jsonl"
    words = [
        "the",
        "cat",
        "of",
        "an",
        "old",
        "house",
        "saw",
        "a",
        "red",
        "bird",
        "near",
        "that",
        "river",
        "and",
        "wrote",
    ]
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(words, length)) for length in (40, 3000, 60, 1500)]
    file.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return file


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    made = tmp_path_factory.mktemp(request.param)
    data = Data("windows", str(documents(made)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERTEBRA_CACHE", str(made / "cache"))
        prepare(str(made), layers=1, width=16, family=request.param, data=asdict(data), seed=0)
    return str(made)


def test_both_sides_compute_the_same_loss_and_gradient(folder: str) -> None:
    found = compare_pretraining(folder, threads=1, device="cpu")
    assert found["fp32"]["loss"] < 1e-6
    assert found["fp32"]["gradient"] < 1e-5
    assert found["bf16"]["loss"] < 1e-3
    assert 0 < found["bf16"]["gradient"] < 0.05


def test_windows_are_the_text_and_their_pieces_its_documents(folder: str) -> None:
    windows = Windows.read(folder)
    assert windows.tokens_NW.shape[1] == WINDOW + 1
    assert (windows.tokens_NW[1:, 0] == windows.tokens_NW[:-1, -1]).all()
    pieces = [piece for number in range(len(windows.tokens_NW)) for piece in windows.pieces(number)]
    assert np.concatenate([piece.input_ids for piece in pieces]).tolist() == windows.tokens_NW[:, :-1].ravel().tolist()
    assert all((piece.input_ids[1:] == piece.target[:-1]).all() for piece in pieces)
    starts = sum(int((piece.input_ids == windows.end_of_text).sum()) for piece in pieces)
    assert starts == sum(piece.input_ids[0] == windows.end_of_text for piece in pieces) == 4


@pytest.mark.parametrize("setting", ["default", "best"])
def test_turns_count_the_tokens_of_their_windows_and_train(folder: str, setting: str) -> None:
    common = {"threads": 1, "device": "cpu", "batch_size": 2}
    theirs = PretrainingPeer(folder, setting, **common)
    ours = VertebraPretraining(folder, {"default": "fp32", "best": "bf16"}[setting], **common)
    before = [side.clone() for side in map(first_weight, (theirs.model, ours.model))]
    turns = [side.train(steps=2, warmup=1, seed=1) for side in (theirs, ours)]
    assert [turn["tokens"] for turn in turns] == [2 * 2 * WINDOW] * 2
    assert [turn["steps"] for turn in turns] == [2, 2]
    after = [first_weight(side.model) for side in (theirs, ours)]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def first_weight(model: torch.nn.Module) -> torch.Tensor:
    return next(model.parameters()).detach()


def test_random_tokens_have_no_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "N_SYNTHETIC", 3)
    prepare(str(tmp_path), layers=1, width=16, family="gpt2", data=asdict(find_corpus("synthetic")), seed=0)
    assert Windows.read(str(tmp_path)).undivided() == [0, 1, 2]


def test_texts_that_are_not_there_are_named() -> None:
    with pytest.raises(ConfigError, match=r"there is no 'nowhere'"):
        find_corpus("nowhere")
