"""The kit finds what is broken, says so in the right words, and has nothing to say of what is whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kit_plugin import FILES, MUTANTS, Mutant, installed

from vertebra.testing import PROMISES, BrokenPromisesError, check_task


def test_the_healthy_plugin_keeps_every_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with installed(FILES, tmp_path, monkeypatch):
        check_task("tagger", known_scores=[("tag_recall", [["A", "O"]], [["A", "B"]], 0.5)])


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_promise_is_found(mutant: Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        installed(mutant.files(), tmp_path, monkeypatch),
        pytest.raises(BrokenPromisesError) as caught,
    ):
        check_task("tagger", only=[mutant.promise])
    breaches = caught.value.breaches[mutant.promise]
    assert any(mutant.where in one.where and re.search(mutant.says, one.what) for one in breaches), str(caught.value)
    assert all(one.cause for one in breaches)


def test_each_promise_is_broken_by_a_mutant() -> None:
    assert {mutant.promise for mutant in MUTANTS} == {promise.name for promise in PROMISES}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_plugin_does_not_pass_the_whole_kit(
    mutant: Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        installed(mutant.files(), tmp_path, monkeypatch),
        pytest.raises(BrokenPromisesError) as caught,
    ):
        check_task("tagger")
    assert mutant.promise in {*caught.value.breaches, *caught.value.unchecked}
