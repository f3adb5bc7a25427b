"""`pytest --vertebra-plugin`: a test for each task and promise, from a folder without any test file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kit_plugin import FILES, MUTANTS, installed

from vertebra.testing import PROMISES

PYTEST = [
    sys.executable,
    "-m",
    "pytest",
    "-p",
    "vertebra.testing.pytest_plugin",
    "-p",
    "no:cacheprovider",
    "-W",
    "error",
]


def run(files: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    """Run pytest in an empty folder with a plugin installed; return the exit code and what it said."""
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    with installed(files, folder, monkeypatch) as site:
        done = subprocess.run([*PYTEST, *arguments], cwd=empty, env=site.environment(), capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_each_promise_is_a_test_with_a_readable_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = run(FILES, tmp_path, monkeypatch, "--vertebra-plugin", "tagger", "--collect-only", "-q")
    assert code == 0, said
    assert [line for line in said.splitlines() if "::" in line] == [f"vertebra::tagger::{one.name}" for one in PROMISES]


def test_tests_are_chosen_skipped_and_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = ["-k", "settings or imports or registered", "--vertebra-skip", "imports=torch is all that it does", "-rs"]
    code, said = run(FILES, tmp_path, monkeypatch, "--vertebra-plugin", "tagger", *chosen)
    assert code == 0, said
    assert "2 passed, 1 skipped" in said and "torch is all that it does" in said


def test_a_broken_promise_is_a_failure_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = next(mutant for mutant in MUTANTS if mutant.name == "a setting that is not declared").files()
    code, said = run(files, tmp_path, monkeypatch, "--vertebra-plugin", "tagger", "-k", "settings")
    assert code == 1, said
    assert "the code reads the setting 'droput'" in said and "Did you mean 'dropout'?" in said
    assert "usual cause:" in said and "kit.py" not in said
    assert "FAILED vertebra::tagger::settings" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vertebra-plugin", "taggr"], "There is no installed plugin 'taggr'. Did you mean 'tagger'"),
        (["--vertebra-plugin", "speed"], "registers no task"),
        (["--vertebra-plugin", "tagger", "--vertebra-skip", "resum=x"], "There is no promise 'resum'"),
        (["--vertebra-plugin", "tagger", "--vertebra-skip", "resume"], "skipped without a reason"),
    ],
)
def test_what_is_asked_wrong_is_said(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = run(FILES, tmp_path, monkeypatch, *arguments)
    assert code == 4 and message in said, said


def test_without_the_option_it_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_own.py").write_text(
        "import sys\ndef test_one():\n    assert not {'torch', 'vertebra.host.manager'} & set(sys.modules)\n"
    )
    code, said = run(FILES, tmp_path, monkeypatch, str(tmp_path / "test_own.py"))
    assert code == 0 and "1 passed" in said, said
