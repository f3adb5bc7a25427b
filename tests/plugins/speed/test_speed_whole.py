"""Whole measurements, of the smallest models: each subcommand in processes of its own, as a user starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = "--shape 1x32 --data synthetic:6 --repeats 2"
STEPS = "--steps 2 --warmup 1 --batch 4"


def speed(line: str, folder: Path) -> dict[str, Any]:
    """Run `vertebra speed` in a fresh process and return its report."""
    site = (
        folder / "site" / "speed-0.dist-info"
    )  # an entry point, also where the package was installed before it had it
    site.mkdir(parents=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: speed\nVersion: 0\n")
    (site / "entry_points.txt").write_text("[vertebra]\nspeed = vertebra_speed\n")
    path = os.pathsep.join([str(site.parent), *(one for one in sys.path if one)])
    done = subprocess.run(
        [sys.executable, "-m", "vertebra", "speed", *line.split(), "--json", str(folder / "report.json")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    assert report["line"] == f"vertebra speed {line}"
    assert all(note.split()[0] in done.stdout for note in report["notes"])
    assert not list(folder.glob("vertebra-speed-*")), "what was prepared stays behind"
    assert str(folder) not in json.dumps(report), "a report shows a path of this machine"
    return report


def test_train(tmp_path: Path) -> None:
    report = speed(f"train {SMALL} {STEPS} --family llama", tmp_path)
    names = ["Trainer, default", "Trainer, best", "Vertebra, fp32", "Vertebra, bf16"]
    assert [side["name"] for side in report["sides"]] == names
    assert [len(side["turns"]) for side in report["sides"]] == [2] * 4
    assert all(turn["steps"] == 2 and turn["tokens"] > 0 for side in report["sides"] for turn in side["turns"])
    assert len(report["ratios"]) == 4
    assert report["differences"]["fp32"]["gradient"] < 1e-5
    assert min(report["ceiling"].values()) > 0


def test_pretrain(tmp_path: Path) -> None:
    report = speed("pretrain --shape 1x32 --data synthetic --repeats 2 --steps 1 --warmup 1 --batch 2", tmp_path)
    assert [len(side["turns"]) for side in report["sides"]] == [2] * 4
    assert all(turn["tokens"] == 2 * 512 for side in report["sides"] for turn in side["turns"])
    assert report["differences"]["fp32"]["gradient"] < 1e-5


def test_evaluate_on_files_of_the_user(tmp_path: Path) -> None:
    data = tmp_path / "mine.conll"
    data.write_text("\n".join(["Ada B-PER\nslept O\n", "in O\nParis B-LOC\n", "it O\nrained O\ntoday O\n"] * 20))
    report = speed(f"evaluate --shape 1x32 --repeats 1 --rows 8 --memory --precision fp32 --data {data.name}", tmp_path)
    assert report["work"]["data"] == "mine.conll"
    assert report["differences"]["Vertebra, fp32"]["labels unlike those of Trainer, default, batch 8"].startswith(
        "0 of"
    )
    assert all(set(by_rows) == {"8", "32", "128"} for by_rows in report["memory"].values())


def test_bundle(tmp_path: Path) -> None:
    report = speed("bundle --shape 1x32 --data synthetic:6 --repeats 2 --rows 12 --requests 6", tmp_path)
    assert [side["name"] for side in report["sides"]] == ["pipelines, default", "pipelines, best", "Vertebra, fp32"]
    assert len(report["ratios"]) == 2
    held = {name: found["MiB above the imports"] for name, found in report["differences"].items()}
    assert held.keys() == {*(side["name"] for side in report["sides"]), "Vertebra, one task"}


def test_generate(tmp_path: Path) -> None:
    report = speed(f"generate {SMALL} --requests 3", tmp_path)
    assert len(report["sides"]) == 5
    assert report["differences"]["Vertebra, fp32"]["answers unlike those of transformers, padded, fp32"] == "0 of 3"


def test_probe(tmp_path: Path) -> None:
    report = speed(f"probe {SMALL} {STEPS} --rows 12 --heads 1,3 --precision fp32", tmp_path)
    one, three = (side["turns"] for side in report["sides"] if side["ours"])
    assert [turn["tokens"] * 3 for turn in one] == [turn["tokens"] for turn in three]


def test_startup(tmp_path: Path) -> None:
    report = speed("startup --repeats 1", tmp_path)
    assert all(one["median"] > 0 for one in report["seconds"].values())


def test_sweep(tmp_path: Path) -> None:
    report = speed("sweep --heads 2 --jobs 2 --steps 2 --rows 20", tmp_path)
    assert len(report["seconds"]) == 8
    assert all(one["median"] > 0 for one in report["seconds"].values())
    assert (
        "Jobs of the sweep with other weights, scores or predictions than their own processes: 0 of 2."
        in report["notes"]
    )
