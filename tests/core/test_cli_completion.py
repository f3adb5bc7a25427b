"""Completion in a real shell: what bash offers after a press of the tab key."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
SCRIPT = """
eval "$(vertebra -sc install=bash)"
offer() {
    COMP_LINE="$1"; COMP_POINT=${#1}; COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
    [[ "$1" == *" " ]] && COMP_CWORD=$((COMP_CWORD + 1))
    $(complete -p vertebra | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    echo "${COMPREPLY[*]}"
}
"""

pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None or not (BIN / "vertebra").exists(), reason="needs bash and an installed `vertebra`"
)


def offered(*lines: str) -> list[list[str]]:
    """Return what bash offers for each line, the cursor at its end."""
    script = SCRIPT + "\n".join(f"offer {shlex.quote(line)}" for line in lines)
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    assert result.stderr == ""
    return [line.split() for line in result.stdout.splitlines()]


def test_commands_tasks_options_and_settings_are_offered() -> None:
    commands, tasks, group, options, data, mine, fields, after_flag, flags = offered(
        "vertebra tr",
        "vertebra train task=",
        "vertebra train tra",
        "vertebra train task=ner backbone=g",
        "vertebra train data=",
        "vertebra train task=other data=",
        "vertebra train task=ner task.",
        "vertebra train task=ner --multirun trainer.learning_",
        "vertebra train task=ner --mul",
    )
    assert commands == ["train"]
    assert "task=ner" in tasks
    assert "trainer=" in group
    assert options == ["backbone=gpt2", "backbone=gpt2-large", "backbone=gpt2-medium", "backbone=gpt2-xl"]
    assert "data=ner/conll2003" in data
    assert mine == []
    assert "task.dropout=" in fields
    assert after_flag == ["trainer.learning_rate="]
    assert flags == ["--multirun"]


def test_what_cannot_be_completed_offers_nothing_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a folder `runs` would be offered
    assert offered("vertebra evaluate ru", "vertebra train x(= trai", "vertebra train task=nope task.") == [[], [], []]
