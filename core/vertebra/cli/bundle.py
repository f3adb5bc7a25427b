"""`vertebra bundle`: a trained task without its backbone, as a small folder to keep, send and load."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vertebra.cli.parser import Parser

if TYPE_CHECKING:
    from vertebra.runs.bundle_folder import BundleFolder


def main(argv: Sequence[str]) -> int:
    """Run `vertebra bundle` with these arguments."""
    arguments = _parser().parse_args(list(argv))
    {"export": _export, "inspect": _inspect, "verify": _verify}[arguments.command](arguments)
    return 0


def _parser() -> Parser:
    parser = Parser(
        "vertebra bundle",
        description="A task bundle is what one task learnt beside a backbone that it shares: adapter, head, labels, settings, "
        "scores, and the fingerprints of backbone and tokenizer, in a folder of safetensors and JSON.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="export|inspect|verify")
    export = commands.add_parser("export", help="make a bundle of a finished run with an adapter")
    export.add_argument("run", metavar="RUN_DIR", help="the folder of the run")
    export.add_argument("bundle", metavar="BUNDLE_DIR", type=Path, help="a new folder")
    inspect = commands.add_parser("inspect", help="say what a bundle holds and needs; its weights are not opened")
    inspect.add_argument("bundle", metavar="BUNDLE_DIR")
    verify = commands.add_parser("verify", help="check every part by its hash, and that it fits its backbone")
    verify.add_argument("bundle", metavar="BUNDLE_DIR")
    for one in (export, verify):
        one.add_argument("--backbone", metavar="PLACE", help="the backbone's folder or Hub name, where it has moved")
    return parser


def _export(arguments: argparse.Namespace) -> None:
    from vertebra.host.manager import create_host
    from vertebra.report.numbers import size
    from vertebra.runs.bundle import export_bundle

    made = export_bundle(arguments.run, arguments.bundle, create_host(), arguments.backbone)
    print(f"Bundle of {size(made.bytes)}: {made.folder.path}. In Python: vertebra.load({str(made.folder.path)!r})")
    if made.own_backbone:
        print(
            f"Its backbone began with random weights and is in '{made.backbone}': keep that. Other tasks share it with "
            f"backbone=hf backbone.path='{made.backbone}'."
        )


def _inspect(arguments: argparse.Namespace) -> None:
    from vertebra.errors import RunError
    from vertebra.runs.bundle import open_bundle

    bundle = open_bundle(arguments.bundle)
    try:
        lines = _describe(bundle)
    except (LookupError, TypeError, ValueError, AttributeError):
        raise RunError(
            f"The bundle in '{bundle.path}' cannot be described: one of its JSON files is not what vertebra wrote. "
            f"Which one: vertebra bundle verify '{bundle.path}'"
        ) from None
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:{width}}  {value}")


def _describe(bundle: BundleFolder) -> dict[str, str]:
    """Return what is shown of a bundle, line by line."""
    from vertebra.report.numbers import size
    from vertebra.runs.bundle_card import label_set

    about, learnt = bundle.read_state(), bundle.read_json("model/tasks.json")
    backbone, adapter = about["backbone"], about["adapter"]
    config = bundle.read_config()["backbone"]
    shape = ", ".join(f"{name} {value}" for name, value in backbone["shape"].items())
    lines = {
        "task": about["task"],
        "labels": ", ".join(label_set(learnt[about["task"]])) or "none",
        "adapter": f"{adapter['name']}, {adapter['trained']:,} parameters; head {adapter['head']:,}",
        "backbone": f"{config.get('path') or backbone['name']} ({shape})",
        "attention": str(backbone["attention"]),
        "backbone's fingerprint": adapter["base"],
        "tokenizer's fingerprint": backbone["tokenizer"],
        "made": f"{about.get('created')}, vertebra {about['vertebra']}",
    }
    for split, scores in bundle.read_json("metrics.json").items():
        lines[f"scores on {split}"] = ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
    for file in sorted(file for file in bundle.path.rglob("*") if file.is_file()):
        lines[file.relative_to(bundle.path).as_posix()] = size(file.stat().st_size)
    return lines


def _verify(arguments: argparse.Namespace) -> None:
    from vertebra.host.manager import create_host
    from vertebra.runs.bundle import verify_bundle

    loaded = verify_bundle(arguments.bundle, create_host(), arguments.backbone)
    print(
        f"Every part is whole, and fits backbone '{loaded.model.backbone.info.name}' and its tokenizer: "
        f"task {loaded.task.name}, {arguments.bundle}"
    )
