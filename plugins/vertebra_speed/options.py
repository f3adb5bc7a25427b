"""What a measurement is made of: the options of `vertebra speed`, checked. This module imports nothing heavy."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vertebra.errors import ConfigError

Family = Literal["gpt2", "llama"]
Precision = Literal["fp32", "bf16"]

PRECISIONS: dict[str, tuple[Precision, ...]] = {"fp32": ("fp32",), "bf16": ("bf16",), "all": ("fp32", "bf16")}
PEERS = {"default": ("default",), "best": ("best",), "all": ("default", "best"), "none": ()}
VOCABULARY = 50257
"""Entries of GPT-2's embedding."""
HEAD_WIDTH = 64
"""Of GPT-2 and of Llama's smaller models."""


@dataclass(frozen=True)
class Shape:
    """Layers and hidden width of a model; a head is 64 wide, or as wide as a model that is narrower."""

    layers: int
    width: int

    @property
    def heads(self) -> int:
        """Attention heads of a layer."""
        return max(1, self.width // HEAD_WIDTH)

    def __str__(self) -> str:
        return f"{self.layers}x{self.width}"


GPT2 = Shape(12, 768)


def shape(text: str) -> Shape:
    """Read `gpt2` or LAYERSxWIDTH."""
    if text == "gpt2":
        return GPT2
    layers, _, width = text.partition("x")
    if not (layers.isdigit() and width.isdigit() and int(layers) and int(width)):
        raise argparse.ArgumentTypeError(f"'{text}' is no shape: write gpt2 (12x768) or LAYERSxWIDTH, such as 6x384")
    found = Shape(int(layers), int(width))
    if found.width % (2 * found.heads) or (found.width > HEAD_WIDTH and found.width % HEAD_WIDTH):
        raise argparse.ArgumentTypeError(
            f"the width of '{text}' must be a multiple of {HEAD_WIDTH}, or even and smaller"
        )
    return found


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not (text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number of at least 1")
    return int(text)


# --- data

SYNTHETIC = "synthetic"
CONLL, SST2 = "conll", "sst2"
KNOWN = {CONLL: "ner/conll2003", SST2: "sentiment/sst2"}
MEAN_LENGTH = 20
"""Tokens of a CoNLL-2003 sentence, by GPT-2's tokenizer."""


@dataclass(frozen=True)
class Data:
    """Which examples are read."""

    kind: Literal["words", "text", "synthetic"]
    """Words with a label each; a text with one label; random tokens with a label each."""
    path: str | None = None
    mean_length: int = MEAN_LENGTH
    """Tokens of a synthetic row, on average."""

    def __str__(self) -> str:
        return self.path or f"synthetic, {self.mean_length} tokens a row on average"


def find_data(wanted: str | None) -> Data:
    """Return the data behind `--data`: a known set, a path, `synthetic[:MEAN]`; by default CoNLL-2003 where it is found."""
    if wanted is None:
        return find_data(CONLL if shared("ner/conll2003") else SYNTHETIC)
    name, _, mean = wanted.partition(":")
    if name == SYNTHETIC:
        if mean and not (mean.isdigit() and int(mean)):
            raise ConfigError(f"speed: --data {wanted}: write synthetic or synthetic:TOKENS, such as synthetic:64.")
        return Data("synthetic", mean_length=int(mean or MEAN_LENGTH))
    if wanted in KNOWN:
        folder = shared(KNOWN[wanted])
        if folder is None:
            raise ConfigError(
                f"speed: the data set '{wanted}' is not here (looked for shared/data/{KNOWN[wanted]} beside the repository). "
                "Give a folder of your own, as in --data FOLDER, or --data synthetic."
            )
        return Data("text" if wanted == SST2 else "words", str(folder))
    path = Path(wanted).expanduser()
    if not path.exists():
        raise ConfigError(
            f"speed: there is no '{wanted}'. --data takes conll, sst2, synthetic[:TOKENS], or the path of CoNLL files "
            "(one token a line, its tag in the last column)."
        )
    return Data("words", str(path.absolute()))


def shared(path: str) -> Path | None:
    """Return a folder of the data beside the repository; None where it is not there."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / path
    return folder if folder.is_dir() else None


@dataclass(frozen=True)
class Options:
    """The options of one measurement, checked."""

    shape: Shape
    family: Family
    data: Data
    threads: int
    device: Literal["cpu", "cuda"]
    repeats: int
    steps: int
    warmup: int
    batch: int
    peers: tuple[str, ...]
    precisions: tuple[Precision, ...]
    seed: int = 0
