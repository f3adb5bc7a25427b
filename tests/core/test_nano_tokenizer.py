from __future__ import annotations

import gzip
import hashlib
import json
import lzma
from importlib.resources import as_file, files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModel, AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

from vertebra.cli.tokenizer import main
from vertebra.config.schema import BackboneConfig
from vertebra.engine.loading import load_backbone
from vertebra.errors import ConfigError, DataError
from vertebra.host.manager import create_host
from vertebra.tokenizer import END_OF_TEXT, train_tokenizer

SHARED = Path(__file__).parents[3] / "shared" / "data"
SENTENCES = ["The quick brown fox jumps over the lazy dog.", "In 1996 the dog, aged 12, didn't jump back."] * 20


@pytest.fixture(scope="module")
def folder() -> Path:
    with as_file(files("vertebra") / "nano") as path:
        return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(folder)


def test_nano_is_loaded_by_transformers_alone(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    config = AutoConfig.from_pretrained(folder)
    assert tokenizer.is_fast
    assert len(tokenizer) == config.vocab_size == 16384
    assert tokenizer.model_max_length == config.n_positions == 512
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == tokenizer.pad_token_id == config.eos_token_id == 0
    assert AutoModel.from_config(config).num_parameters() == 9_064_448


def test_a_change_of_nano_needs_a_new_version(folder: Path) -> None:
    version = json.loads((folder / "version.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(b"".join((folder / name).read_bytes() for name in ("config.json", "tokenizer.json")))
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes())
    expected = {"version": "0.5", "weights": weights.hexdigest(), "fingerprint": digest.hexdigest()}
    assert version == {"name": "nano", **expected}


def test_nano_drops_values_where_its_weights_are_random_alone() -> None:
    host = create_host()

    def dropout(**settings: Any) -> tuple[float, float]:
        config = load_backbone(BackboneConfig(**settings), host).model.config
        return config.resid_pdrop, config.embd_pdrop

    assert dropout() == (0.0, 0.0)
    assert dropout(init="random") == (0.2, 0.2)
    assert dropout(init="random", config={"resid_pdrop": 0.1}) == (0.1, 0.2)
    assert dropout(config={"resid_pdrop": 0.1}) == (0.1, 0.0)


@given(text=st.text())
def test_any_text_survives(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer(text, split_special_tokens=True).input_ids
    assert tokenizer.decode(ids) == text


@given(text=st.text(st.characters(codec="utf-8")))
def test_offsets_cover_the_text_in_order(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    encoded = tokenizer(text, return_offsets_mapping=True, split_special_tokens=True)
    offsets = encoded["offset_mapping"]
    assert all(0 <= start <= end <= len(text) for start, end in offsets)
    assert all(one[0] <= other[0] for one, other in pairwise(offsets))
    covered = {place for start, end in offsets for place in range(start, end)}
    assert {place for place, letter in enumerate(text) if not letter.isspace()} <= covered


def test_offsets_leave_out_the_space_before_a_word(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "The cat sat"
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    assert [text[start:end] for start, end in offsets] == ["The", "cat", "sat"]


def test_the_end_of_text_in_a_users_text_stays_text(tokenizer: PreTrainedTokenizerFast) -> None:
    text = f"before {END_OF_TEXT} after"
    ids = tokenizer(text, split_special_tokens=True).input_ids
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.eos_token_id in tokenizer(text).input_ids


def test_numbers_are_cut_after_three_digits_and_marks_stay_with_letters(tokenizer: PreTrainedTokenizerFast) -> None:
    words = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("1234567 नमस्ते cafe\u0301!")
    assert [end - start for _, (start, end) in words] == [3, 3, 1, 7, 6, 1]


def test_its_compression_is_near_gpt2s(tokenizer: PreTrainedTokenizerFast, record_property) -> None:  # type: ignore[no-untyped-def]
    if not SHARED.is_dir():
        pytest.skip("the shared data are not here")
    with lzma.open(SHARED / "lm" / "wiki.valid.jsonl.xz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    gpt2 = GPT2Tokenizer.from_pretrained(SHARED / "tokenizer" / "gpt2")
    size = sum(len(text.encode()) for text in texts)
    of_nano, of_gpt2 = (size / sum(map(len, one(texts, verbose=False).input_ids)) for one in (tokenizer, gpt2))
    record_property("bytes_per_token", {"nano": of_nano, "gpt2": of_gpt2})
    assert 0.8 * of_gpt2 < of_nano < of_gpt2


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz", "text.jsonl", "text.jsonl.xz"])
def test_the_command_learns_from_files(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps({"text": text}) if "jsonl" in name else text for text in SENTENCES]
    write = {".gz": gzip.open, ".xz": lzma.open}.get(Path(name).suffix, open)
    with write(tmp_path / name, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines))
    output = tmp_path / "made"
    assert main(["train", "--input", str(tmp_path / name), "--vocab-size", "280", "--output", str(output)]) == 0
    assert "280 entries" in capsys.readouterr().out
    made = AutoTokenizer.from_pretrained(output)
    assert len(made) == 280
    assert made.decode(made("Ünïcode 数据").input_ids) == "Ünïcode 数据"


def test_training_again_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        train_tokenizer(SENTENCES, 300, tmp_path / name)
    assert (tmp_path / "one" / "tokenizer.json").read_bytes() == (tmp_path / "two" / "tokenizer.json").read_bytes()


def test_wrong_input_is_one_clear_line(tmp_path: Path) -> None:
    def run(path: Path, *options: str) -> None:
        main(["train", "--input", str(path), "--output", str(tmp_path / "out"), "--vocab-size", "300", *options])

    with pytest.raises(DataError, match=r"no file or folder '.*missing.txt'"):
        run(tmp_path / "missing.txt")
    (rows := tmp_path / "rows.jsonl").write_text('{"text": "fine"}\n{"body": "other column"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"row 2 has no text in 'text'.* body by --column"):
        run(rows)
    (broken := tmp_path / "broken.jsonl").write_text('{"text": ', encoding="utf-8")
    with pytest.raises(DataError, match=r"broken.jsonl"):
        run(broken)
    (latin := tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.txt:1: not utf-8 text"):
        run(latin)
    (short := tmp_path / "short.txt").write_text("too short", encoding="utf-8")
    with pytest.raises(DataError, match=r"give only \d+ of 300 entries"):
        run(short)
    with pytest.raises(ConfigError, match="too small"):
        run(short, "--vocab-size", "200")


def test_the_limit_balances_files(tmp_path: Path) -> None:
    from vertebra.cli.tokenizer import read_texts

    (path := tmp_path / "lines.txt").write_text("0123456789\n" * 10, encoding="utf-8")
    assert len(list(read_texts(path, limit=30))) == 3
    assert len(list(read_texts(path))) == 10
