"""Files, models and runs that are wrong in one way each, and good ones beside them; they are read alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from refusals import CPU, TINY, Places

from bad_files import write_data, write_models
from vertebra.cli.main import main


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data files that are wrong."""
    folder = tmp_path_factory.mktemp("bad input")
    write_data(folder / "data")
    return folder


@pytest.fixture(scope="session")
def models(files: Path) -> None:
    """Model folders that are wrong, beside the data."""
    write_models(files / "models")


@pytest.fixture
def places(files: Path, tmp_path: Path) -> Places:
    return Places(files, tmp_path / "out")


def rehash(run: Path) -> None:
    """Make the model's manifest fit what was changed."""
    manifest = run / "model" / "manifest.json"
    names = json.loads(manifest.read_text())["files"]
    there = {name: run / "model" / name for name in names if (run / "model" / name).exists()}
    hashes = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in there.items()}
    manifest.write_text(json.dumps({"files": hashes}))


def change_state(run: Path, **changes: Any) -> None:
    known = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**known, **changes}))


@pytest.fixture(scope="session")
def runs(files: Path) -> None:
    """A good run, and copies that are wrong in one way each."""
    folder = files / "runs"
    good = folder / "good"
    assert main(["train", "task=ner", *TINY, *CPU, "data.limit=40", f"hydra.run.dir={good}"]) == 0

    def copy(name: str) -> Path:
        return Path(shutil.copytree(good, folder / name))

    change_state(copy("later"), format=99)
    change_state(copy("no_format"), format=None)
    (copy("list_state") / "run.json").write_text("[]")
    (copy("broken_state") / "run.json").write_text("{")
    (copy("binary_state") / "run.json").write_bytes(b"\xff\xfe\x00")
    (copy("no_state") / "run.json").unlink()
    failed = copy("failed")
    change_state(failed, status="failed", reason="something")
    shutil.rmtree(failed / "model")
    (copy("no_settings") / "config.yaml").unlink()
    (copy("broken_settings") / "config.yaml").write_text("tasks: [1")
    settings = (good / "config.yaml").read_text()
    (copy("other_key") / "config.yaml").write_text(f"{settings}trianer: 3\n")
    (copy("other_task") / "config.yaml").write_text(settings.replace("name: ner", "name: nre"))
    (copy("no_manifest") / "model" / "manifest.json").unlink()
    (copy("no_heads") / "model" / "heads.safetensors").unlink()
    weights = copy("cut_weights") / "model" / "backbone" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    cut = copy("cut_heads")
    (cut / "model" / "heads.safetensors").write_bytes(b"xx")
    rehash(cut)
    labels = copy("no_labels")
    (labels / "model" / "tasks.json").write_text('{"ner": {}}')
    rehash(labels)
