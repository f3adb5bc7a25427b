"""Data files and model folders that are wrong in one way each, and good ones beside them."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

SENTENCE = "{name} B-PER\nlives O\nin O\nParis B-LOC\n. O\n\n"
GOOD = "".join(SENTENCE.format(name=f"Ada{number}") for number in range(40))
ONE_MORE_TYPE = "Two O\nOlympics B-MISC\n\n"

PLAIN: dict[str, str | bytes] = {
    "good.conll": GOOD,
    "empty.conll": "",
    "blank.conll": "\n \n\n",
    "binary.conll": bytes(range(256)) * 40,
    "latin1.conll": f"{GOOD}Zürich B-LOC\n".encode("latin-1"),
    "cut.conll.gz": gzip.compress(os.urandom(4000))[:2000],
    "cut.conll.xz": lzma.compress(os.urandom(4000))[:2000],
    "short.conll": "Ada B-PER\nlives\n",
    "wide.conll": "Ada B-PER\nnew york O\n",
    "tokens.conll": "Ada\nlives\n\nin\nParis\n",
    "plain_tag.conll": GOOD.replace("B-LOC", "LOC", 1),
    "other_scheme.conll": GOOD.replace("B-LOC", "E-LOC", 1),
    "outside.conll": GOOD.replace("B-PER", "O").replace("B-LOC", "O"),
    "names.csv": "token,tag\nAda,B-PER\n",
    "twice.csv": "tokens,tags,tags\nAda,B-PER,O\n",
    "uneven.csv": "tokens,tags\nAda,B-PER,O\n",
    "quote.csv": 'tokens,tags\n"Ada,B-PER\n',
    "no_tags.jsonl": '{"tokens": ["Ada"], "tag": ["B-PER"]}\n',
    "text_tags.jsonl": '{"tokens": ["Ada"], "tags": "B-PER"}\n',
    "number_tags.jsonl": '{"tokens": ["Ada"], "tags": [3]}\n',
    "null_tags.jsonl": '{"tokens": ["Ada"], "tags": null}\n',
    "fewer_tags.jsonl": '{"tokens": ["Ada", "sleeps"], "tags": ["B-PER"]}\n',
    "not_json.jsonl": '{"tokens": ["Ada"], "tags": ["B-PER"]}\n{"tokens": \n',
    "scalar.jsonl": "3\n",
    "same_id.jsonl": '{"id": 7, "tokens": ["Ada"], "tags": ["B-PER"]}\n' * 2,
    "prose.txt": "Ada lives in Paris.\nShe writes.\n",
    "fake.parquet": "PAR1 but no more",
    "whole.parquet": "no Parquet at all",
    "long.conll": GOOD + "word O\n" * 60,
    "empty_train/train.conll": "",
    "empty_train/test.conll": GOOD,
    "no_train/test.conll": GOOD,
    "no_names/one.conll": GOOD,
    "no_names/two.conll": GOOD,
    "two_trains/train-a.conll": GOOD,
    "two_trains/train-b.conll": GOOD,
    "unseen/train.conll": GOOD,
    "unseen/valid.conll": GOOD + ONE_MORE_TYPE,
    "unseen/test.conll": GOOD,
    "stray/train.conll": GOOD,
    "stray/valid.conll": GOOD.replace("B-LOC", "E-LOC", 1),
    "no_files/.hidden": "",
    "rows.jsonl": '{"text": "Ada lives."}\n{"tekst": "Ada lives."}\n',
    "texts.txt": "Ada lives in Paris.\n",
}
"""Files by name; those that begin with `empty_train/` and the like stand in a folder."""


def write_data(folder: Path) -> None:
    """Write every data file into the folder."""
    for name, content in PLAIN.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_models(folder: Path) -> None:
    """Write a good model folder, and copies that are broken in one way each."""
    good = folder / "good"
    _write_good_model(good)
    for copy in _copies(good, "no_tokenizer"):
        (copy / "tokenizer.json").unlink()
        (copy / "tokenizer_config.json").unlink()
    for copy in _copies(good, "broken_tokenizer"):
        (copy / "tokenizer.json").write_text("{")
    for copy in _copies(good, "pickled"):
        (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    for copy in _copies(good, "no_weights"):
        (copy / "model.safetensors").unlink()
    for copy in _copies(good, "no_config"):
        (copy / "config.json").unlink()
    for copy in _copies(good, "broken_config"):
        (copy / "config.json").write_text('{"model_type": ')
    for copy in _copies(good, "list_config"):
        (copy / "config.json").write_text("[]")
    for name, changes in {
        "unknown_type": {"model_type": "gpt7"},
        "no_type": {"model_type": None},
        "other_shape": {"n_embd": 64},
        "fewer_heads": {"n_head": 3},
        "more_layers": {"n_layer": 2},
        "text_for_number": {"n_layer": "two"},
        "encoder": {"model_type": "bert"},
        "fewer_entries": {"vocab_size": 100},
    }.items():
        for copy in _copies(good, name):
            _change_config(copy, changes)
    for copy in _copies(good, "cut_weights"):
        weights = copy / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
    for copy in _copies(good, "empty_weights"):
        (copy / "model.safetensors").write_bytes(b"")


def _write_good_model(folder: Path) -> None:
    from transformers import AutoConfig, AutoModel

    nano = Path(str(resources.files("vertebra") / "nano"))
    config = AutoConfig.from_pretrained(nano)
    config.update({"n_layer": 1, "n_embd": 32, "n_head": 2})
    AutoModel.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(nano / name, folder / name)


def _copies(good: Path, name: str) -> Iterator[Path]:
    """Yield one copy of the good folder beside it: `for` gives it a name for the lines that break it."""
    yield Path(shutil.copytree(good, good.parent / name))


def _change_config(folder: Path, changes: dict[str, Any]) -> None:
    file = folder / "config.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in {**known, **changes}.items() if value is not None}))
