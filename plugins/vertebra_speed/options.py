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
NANO = Shape(6, 256)
"""The embedded backbone."""


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


def numbers(text: str) -> tuple[int, ...]:
    """Read whole numbers with commas between them."""
    return tuple(positive(part) for part in text.split(","))


# --- data

SYNTHETIC = "synthetic"
CONLL, SST2 = "conll", "sst2"
KNOWN = {CONLL: "ner/conll2003", SST2: "sentiment/sst2"}
MEAN_LENGTH = 20
"""Tokens of a CoNLL-2003 sentence, by GPT-2's tokenizer."""


@dataclass(frozen=True)
class Data:
    """Which examples are read."""

    kind: Literal["words", "text", "synthetic", "windows"]
    """Words with a label each; a text with one label; random tokens with a label each; windows of running text."""
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


CORPUS = "lm/wiki.valid.jsonl.xz"


def find_corpus(wanted: str | None) -> Data:
    """Return the texts behind `--data`: a path or `synthetic`; by default articles of Wikipedia where they are found."""
    if wanted is None:
        path = shared(CORPUS)
        return find_corpus(SYNTHETIC if path is None else str(path))
    if wanted == SYNTHETIC:
        return Data("windows")
    path = Path(wanted).expanduser()
    if not path.exists():
        raise ConfigError(f"speed: there is no '{wanted}'. --data takes synthetic, or the path of texts.")
    return Data("windows", str(path.absolute()))


def shared(path: str) -> Path | None:
    """Return a folder or a file of the data beside the repository; None where it is not there."""
    found = Path(__file__).resolve().parents[3] / "shared" / "data" / path
    return found if found.exists() else None


@dataclass(frozen=True)
class Options:
    """The options of one measurement, checked; what a subcommand does not take keeps its default."""

    shape: Shape = GPT2
    family: Family = "gpt2"
    data: Data = Data("synthetic")
    threads: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    repeats: int = 5
    """Turns of each side."""
    peers: tuple[str, ...] = PEERS["all"]
    precisions: tuple[Precision, ...] = PRECISIONS["all"]
    """Of Vertebra."""
    batch: int = 32
    """Rows of a training step."""
    steps: int = 10
    """Training steps of a turn that count."""
    warmup: int = 2
    """Training steps of a turn before those."""
    rows: int = 1024
    """Rows that are evaluated or probed."""
    requests: int = 32
    """Requests that are answered at once."""
    heads: tuple[int, ...] = (1, 4, 16)
    """How many heads are trained on the frozen backbone."""
    jobs: int = 12
    """Short runs of a sweep."""
    memory: bool = False
    """Whether to measure the peak memory for 1, 4 and 16 times the rows."""
    seed: int = 0

    @property
    def peer_precisions(self) -> list[tuple[str, Precision]]:
        """The chosen settings of the peer, each with the precision that it computes in."""
        return [(peer, "bf16" if peer == "best" else "fp32") for peer in self.peers]

    @property
    def about_seconds(self) -> str:
        """A note on what a second is."""
        seconds = "the processor's" if self.threads == 1 and self.device == "cpu" else "by the clock"
        return f"Seconds are {seconds}; padding counts as no token. Each side has a process of its own, and they take turns."
