"""What a reader of the documentation has: an environment with Vertebra, and the files that the pages speak of."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

from tests.doc_blocks import ROOT, Block

from vertebra import DataConfig

PROGRAMS = ("vertebra", "pip", "pytest")
OPTIONS = {"train": 160, "valid": 40, "test": 40}


class Reader:
    """A folder to work in, and an environment of one's own that sees the packages of the one that runs the tests."""

    def __init__(self, folder: Path, page: str) -> None:
        self.work = folder / "work"
        self._environment = folder / "environment"
        here = (ROOT / page).parent
        if here.parent == ROOT / "docs" / "examples":  # the page of an example is read where the example stands
            shutil.copytree(here, self.work, ignore=shutil.ignore_patterns("__pycache__"))
        self.work.mkdir(parents=True, exist_ok=True)
        text = (ROOT / page).read_text(encoding="utf-8")
        for name, write in FILES.items():
            if name in text:
                write(self.work / name)
        self._make_environment()

    def run(self, block: Block) -> None:
        """Do what the page says; fail with the block's place and all that it printed."""
        if block.file is not None:
            file = self.work / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.source, encoding="utf-8")
        elif block.language == "python":
            with chdir(self.work):
                exec(compile(block.source, block.place, "exec"), {"__name__": "documentation"})
        else:
            command = ["bash", "-euo", "pipefail", "-c", block.source]
            done = subprocess.run(command, cwd=self.work, env=self._variables(), capture_output=True, text=True)
            assert done.returncode == 0, f"{block.place}\n{block.source}\n{done.stdout}\n{done.stderr}"

    def _variables(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": os.pathsep.join([str(self._environment / "bin"), os.environ["PATH"]]),
            "HOME": str(self.work.parent),
            "COLUMNS": "120",
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",  # all that a package needs is here
            "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as the value of `build_isolation`
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def _make_environment(self) -> None:
        venv.create(self._environment)
        binaries = self._environment / "bin"
        base = {"base": str(self._environment), "platbase": str(self._environment)}
        seen = [sysconfig.get_path("purelib"), *(path for path in sys.path if path.endswith("site-packages"))]
        lines = [f"import site; site.addsitedir({path!r})" for path in dict.fromkeys(seen)]
        own = Path(sysconfig.get_path("purelib", vars=base)) / "environment_of_the_tests.pth"
        own.write_text("\n".join([*lines, ""]), encoding="utf-8")
        for name in PROGRAMS:
            program = binaries / name
            program.write_text(f'#!/bin/sh\nexec "{binaries}/python" -m {name} "$@"\n', encoding="utf-8")
            program.chmod(0o755)


def write_corpus(folder: Path) -> None:
    """Write sentences with named entities: train, dev and test, one word a line, the tag last."""
    from vertebra_ner.sample import read

    folder.mkdir()
    splits = read(DataConfig(options=OPTIONS))
    for split, name in (("train", "train.txt"), ("valid", "dev.txt"), ("test", "test.txt")):
        sentences = [zip(row["tokens"], row["tags"], strict=True) for row in splits[split]]
        text = "\n\n".join("\n".join(f"{word} {tag}" for word, tag in sentence) for sentence in sentences)
        (folder / name).write_text(f"{text}\n", encoding="utf-8")


def write_reviews(file: Path) -> None:
    """Write reviews with the columns `review` and `opinion`."""
    from vertebra_sentiment.reviews import read

    rows = read(DataConfig(options=OPTIONS))["train"]
    write_table(file, [["review", "opinion"], *([row["text"], row["label"]] for row in rows)])


def write_texts(file: Path) -> None:
    """Write texts with the columns `text` and `score`: the more words of one letter, the higher."""
    write_table(file, [["text", "score"], *(["a " * (n % 9) + "word" * (9 - n % 9), str(n % 9)] for n in range(90))])


def write_table(file: Path, rows: list[list[str]]) -> None:
    """Write a CSV file."""
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows(rows)


def write_resumes(folder: Path) -> None:
    """Write Chinese sentences with the names of people and places: one character a line, BMES tags."""
    folder.mkdir()
    people, places = ("王小明", "李华", "张伟", "陈静怡"), ("北京", "上海", "南京市", "广州")
    pairs = [(person, place) for person in people for place in places]
    for name, some in (("train", pairs), ("valid", pairs[::3]), ("test", pairs[1::3])):
        lines = []
        for person, place in some:
            for text, kind in ((person, "NAME"), ("出生于", None), (place, "LOC"), ("。", None)):
                lines += [f"{one} {tag}" for one, tag in zip(text, bmes(len(text), kind), strict=True)]
            lines.append("")
        (folder / f"{name}.bmes").write_text("\n".join(lines), encoding="utf-8")


def bmes(length: int, kind: str | None) -> list[str]:
    """Return the tags of an entity of so many characters, or of a piece of text outside any."""
    if kind is None:
        return ["O"] * length
    return [f"S-{kind}"] if length == 1 else [f"B-{kind}", *[f"M-{kind}"] * (length - 2), f"E-{kind}"]


def write_model(folder: Path) -> None:
    """Write a tiny Llama with random weights and a tokenizer, as a model from the Hub lies in a folder."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "core" / "vertebra" / "nano")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


FILES: dict[str, Callable[[Path], None]] = {
    "my-corpus": write_corpus,
    "my-reviews.csv": write_reviews,
    "my-texts.csv": write_texts,
    "my-resumes": write_resumes,
    "my-llama": write_model,
}
"""The files and folders of which a page may say that the reader has them; they are there where a page names them."""
