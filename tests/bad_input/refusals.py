"""What the tests of wrong input share: where it is, and what a refusal looks like."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vertebra.cli.main import main

Captured = pytest.CaptureFixture[str]

TINY = ("backbone.init=random", "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}")
CPU = ("gpu=cpu", "gpu.threads=1", "trainer.max_steps=2", "trainer.trackers=[]")
SHORT = ("data.limit=40", "trainer.max_steps=1", "trainer.trackers=[]")  # for a mistake in a test
COLUMNS = ("data=ner/conll", *TINY)
INTERNALS = re.compile(
    r"Traceback|KeyError|IndexError|TypeError|ValueError|AttributeError|OSError|NoneType|object at 0x|<class|Errno|codec"
)
"""What belongs into a traceback and never into a message."""


@dataclass(frozen=True)
class Places:
    """Where the wrong files are, and where a command may write."""

    files: Path
    out: Path

    def filled(self, text: str) -> str:
        return (
            text.replace("DATA", str(self.files / "data"))
            .replace("OUT", str(self.out))
            .replace("MODELS", str(self.files / "models"))
            .replace("RUNS", str(self.files / "runs"))
        )


def wrong(*rows: tuple[Any, ...]) -> Any:
    """Parametrise a test by (argument or arguments, what the message says ...)."""
    return pytest.mark.parametrize(
        ("arguments", "says"),
        [pytest.param((given,) if isinstance(given, str) else given, says, id=_name(given)) for given, *says in rows],
    )


def _name(given: str | tuple[str, ...]) -> str:
    return given if isinstance(given, str) else " ".join(given)


def refused(arguments: tuple[str, ...] | list[str], says: list[str], capsys: Captured, lines: int = 1) -> str:
    """Run a command that must be refused, and return what it printed on stderr."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    message = capsys.readouterr().err
    check_message(message, says, lines)
    return message


def check_message(message: str, says: list[str], lines: int = 1) -> None:
    assert message.startswith("vertebra: "), message
    assert message.count("\n") == lines, message
    assert not INTERNALS.search(message), message
    for said in says:
        assert said in message, message


def check_failed(folder: Path, message: str) -> None:
    """The run that could not go on says so, and why, in its folder."""
    state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert state["status"] == "failed"
    assert state["reason"] in message
    assert not (folder / "model").exists()
