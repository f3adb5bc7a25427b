"""`vertebra speed`: measure Vertebra beside the program that people use now, on this machine."""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from vertebra.cli.parser import Parser
from vertebra.errors import ConfigError
from vertebra_speed.options import (
    GPT2,
    NANO,
    PEERS,
    PRECISIONS,
    Options,
    Shape,
    find_corpus,
    find_data,
    numbers,
    positive,
    shape,
)

COMMANDS = {
    "train": "fine-tuning, beside Hugging Face Trainer",
    "pretrain": "a language model on running text, beside Hugging Face Trainer",
    "evaluate": "predicting a split, beside Trainer.predict",
    "bundle": "six tasks over one backbone, beside a transformers pipeline for each",
    "generate": "answering many requests, beside transformers' generate",
    "probe": "linear heads on a frozen backbone, beside a run of Trainer for each",
    "sweep": "many runs in one process, beside a process for each",
    "startup": "how long a program takes before it does anything",
}
EXAMPLES = """\
examples:
  vertebra speed train --shape gpt2 --threads 1
  vertebra speed train --data my/conll/folder --peer best --json train.json"""


def main(argv: list[str]) -> int:
    """Run the command; `argv` is what follows `vertebra speed`."""
    arguments = parser().parse_args(argv)
    options = read_options(arguments)
    if arguments.json is not None and not arguments.json.parent.is_dir():
        raise ConfigError(f"speed: --json {arguments.json}: there is no folder '{arguments.json.parent}'.")

    from vertebra_speed.table import print_report

    report: dict[str, Any] = importlib.import_module(f"vertebra_speed.{arguments.command}").run(options)
    report["line"] = shlex.join(["vertebra", "speed", *without_json(argv)])
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print_report(report)
    return 0


def parser() -> Parser:
    """Return the parser of the command line."""
    top = Parser(
        prog="vertebra speed",
        description="Measure Vertebra beside Hugging Face's own programs, on the same model, data and machine.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="|".join(COMMANDS))
    parsers = {
        name: commands.add_parser(name, help=summary, description=f"Measure {summary}.")
        for name, summary in COMMANDS.items()
    }
    for one in parsers.values():
        one.add_argument("--repeats", type=positive, default=5, help="turns of each side (default: %(default)s)")
        one.add_argument(
            "--json", type=Path, metavar="FILE", help="write everything that was measured to this file, too"
        )
    for name in ("train", "evaluate", "generate", "probe"):
        add_shared(parsers[name])
    add_shared(
        parsers["pretrain"], shape_of=NANO, data="synthetic, or the path of texts (default: where they are, articles)"
    )
    add_training(parsers["train"])
    add_training(parsers["pretrain"], batch=16)
    add_training(parsers["probe"])
    for name in ("evaluate", "probe"):
        parsers[name].add_argument("--rows", type=positive, default=1024, help="rows of a turn (default: %(default)s)")
    parsers["evaluate"].add_argument(
        "--memory", action="store_true", help="measure the peak memory of 1, 4 and 16 times the rows, too"
    )
    parsers["probe"].add_argument(
        "--heads", type=numbers, default=(1, 4, 16), metavar="K,K,...", help="heads to train at once (default: 1,4,16)"
    )
    add_sweep(parsers["sweep"])
    add_bundle(parsers["bundle"])
    for name in ("generate", "bundle"):
        parsers[name].add_argument(
            "--requests", type=positive, default=32, help="answered at once (default: %(default)s)"
        )
    return top


def add_sweep(one: argparse.ArgumentParser) -> None:
    """Add what the comparison of a sweep with separate runs takes."""
    one.add_argument("--heads", type=numbers, default=(16,), metavar="K", help="settings of a head (default: 16)")
    one.add_argument("--jobs", type=positive, default=12, help="short runs (default: %(default)s)")
    one.add_argument("--steps", type=positive, default=50, help="steps of a short run (default: %(default)s)")
    one.add_argument("--rows", type=positive, default=1024, help="at most, of each split (default: %(default)s)")
    one.set_defaults(repeats=1)


def add_bundle(one: argparse.ArgumentParser) -> None:
    """Add what the comparison of tasks over one backbone with pipelines takes: GPT-2 in fp32 on the CPU."""
    one.add_argument("--shape", type=shape, default=GPT2, help="gpt2 (12x768) or LAYERSxWIDTH (default: gpt2)")
    one.add_argument("--data", help=ROWS)
    one.add_argument("--threads", type=positive, default=1, help="CPU threads of each side (default: %(default)s)")
    one.add_argument("--peer", choices=tuple(PEERS), default="all", help="settings of the peer (default: %(default)s)")
    one.add_argument("--rows", type=positive, default=192, help="texts of a turn (default: %(default)s)")
    one.set_defaults(precision="fp32")


ROWS = "conll, sst2, synthetic[:TOKENS], or the path of CoNLL files (default: conll where it is, else synthetic)"


def add_shared(one: argparse.ArgumentParser, shape_of: Shape = GPT2, data: str = ROWS) -> None:
    """Add what every comparison of two engines takes."""
    usual = "gpt2" if shape_of is GPT2 else shape_of
    one.add_argument("--shape", type=shape, default=shape_of, help=f"gpt2 (12x768) or LAYERSxWIDTH (default: {usual})")
    one.add_argument("--family", choices=("gpt2", "llama"), default="gpt2", help="default: %(default)s")
    one.add_argument("--data", help=data)
    one.add_argument("--threads", type=positive, default=1, help="CPU threads of each side (default: %(default)s)")
    one.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    one.add_argument("--peer", choices=tuple(PEERS), default="all", help="settings of the peer (default: %(default)s)")
    one.add_argument("--precision", choices=tuple(PRECISIONS), default="all", help="of Vertebra (default: %(default)s)")


def add_training(one: argparse.ArgumentParser, batch: int = 32) -> None:
    """Add the options of training steps."""
    one.add_argument("--batch", type=positive, default=batch, help="rows of a step (default: %(default)s)")
    one.add_argument("--steps", type=positive, default=10, help="steps of a turn that count (default: %(default)s)")
    one.add_argument("--warmup", type=positive, default=2, help="steps of a turn before those (default: %(default)s)")


def read_options(arguments: argparse.Namespace) -> Options:
    """Return the options of the line, checked."""
    given = {field.name: vars(arguments)[field.name] for field in fields(Options) if field.name in arguments}
    options = Options(**given)
    if "data" not in arguments:
        return options
    peers, precisions = PEERS[arguments.peer], PRECISIONS[arguments.precision]
    find = find_corpus if arguments.command == "pretrain" else find_data
    return replace(options, data=find(arguments.data), peers=peers, precisions=precisions)


def without_json(argv: list[str]) -> list[str]:
    """Return the arguments but for where the report is written to, which is no part of what was measured."""
    before = ["", *argv]
    return [
        word
        for word, last in zip(argv, before, strict=False)
        if last != "--json" and word.partition("=")[0] != "--json"
    ]
