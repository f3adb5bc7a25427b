"""What only a process of its own shows: a full disk, a network that is not there, who prints."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest
from refusals import CPU, TINY, Places, check_failed, check_message


def process(*arguments: str, limit: int | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `vertebra`, where `limit` is the largest file, in bytes, that it may write."""

    def set_limit() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "vertebra", *arguments]
    variables = {**os.environ, "PYTHONWARNINGS": "default", **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, preexec_fn=set_limit)


def test_a_disk_that_is_full(places: Places) -> None:
    folder = f"hydra.run.dir={places.out}"
    done = process("train", "task=ner", *TINY, *CPU, "data.limit=40", "data.cache=false", folder, limit=500_000)
    assert done.returncode == 2, done.stderr
    message = done.stderr[done.stderr.rindex("vertebra: ") :]
    check_message(message, ["Cannot write", str(places.out), "File too large"])
    check_failed(places.out, message)


def test_the_hub_is_not_waited_for(places: Places) -> None:
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    for option, name, advice in (
        ("backbone=gpt2", "openai-community/gpt2", "backbone.path=FOLDER"),
        ("data=ner/conll2003", "eriktks/conll2003", "data.path=FOLDER"),
    ):
        place = places.out / name
        done = process("train", "task=ner", option, *CPU, f"hydra.run.dir={place}", **nobody)
        assert done.returncode == 2
        check_message(done.stderr, [name, "cannot be reached", advice])  # one line: nothing was tried twice
        check_failed(place, done.stderr)


@pytest.mark.usefixtures("models")
def test_nobody_else_prints(places: Places) -> None:
    given = ["backbone=hf", places.filled("backbone.path=MODELS/other_shape"), "data.limit=40"]
    done = process("train", "task=ner", *given, *CPU, f"hydra.run.dir={places.out}")
    assert done.returncode == 2
    check_message(done.stderr, ["other_shape", "do not fit its configuration"])
    check_failed(places.out, done.stderr)
