"""`vertebra cache`: entries are listed and removed, and nothing else ever is."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vertebra.cli.cache import in_days
from vertebra.cli.main import main
from vertebra.data.cache import Encoded, FeatureCache
from vertebra.data.entries import cache_root
from vertebra.data.kept import DAY, list_kept, remove
from vertebra.engine.hidden_cache import HiddenCache
from vertebra.report.numbers import size
from vertebra.tasks.features import Features

ENCODED = Encoded([Features([5, 6, 7], target=[1, 2, 3])], too_long=0)


def hidden(key: str) -> np.ndarray:
    return HiddenCache().get_or_compute(key, (3, 2), lambda: [np.ones((3, 2), dtype=np.float32)])


def made_days_ago(kind: str, key: str, days: float) -> None:
    moment = time.time() - days * DAY
    os.utime(cache_root() / kind / key / "manifest.json", (moment, moment))


@pytest.fixture
def filled() -> None:
    """Two entries of features, one of them 40 days old, and one of hidden states."""
    FeatureCache().put("new", ENCODED)
    FeatureCache().put("old", ENCODED)
    hidden("states")
    made_days_ago("features", "old", 40)


def listed(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    capsys.readouterr()
    assert main(["cache", "--json"]) == 0
    return [(one["kind"], one["key"]) for one in json.loads(capsys.readouterr().out)["entries"]]


@pytest.mark.usefixtures("filled")
def test_the_list_has_sizes_and_ages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache"]) == 0
    said = capsys.readouterr().out
    features = next(line for line in said.splitlines() if "features" in line)
    assert "2" in features and "40 days ago to today" in features
    assert str(cache_root()) in said
    assert main(["cache", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    on_disk = sum(file.stat().st_size for file in cache_root().rglob("*") if not file.name.endswith(".lock"))
    folders = [path for path in cache_root().rglob("*") if path.is_dir()]
    assert document["bytes"] == on_disk - sum(folder.stat().st_size for folder in folders)
    assert [(one["kind"], one["key"]) for one in document["entries"]] == [
        ("features", "old"),
        ("features", "new"),
        ("hidden", "states"),
    ]


def test_an_empty_cache_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache"]) == 0
    assert "It holds nothing." in capsys.readouterr().out
    assert main(["cache", "clean", "--yes"]) == 0
    assert "nothing to remove" in capsys.readouterr().out


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ([], []),
        (["--older-than", "30"], [("features", "new"), ("hidden", "states")]),
        (["--older-than", "41"], [("features", "old"), ("features", "new"), ("hidden", "states")]),
        (["--kind", "hidden"], [("features", "old"), ("features", "new")]),
        (["--kind", "features", "--older-than", "1"], [("features", "new"), ("hidden", "states")]),
    ],
)
def test_what_is_chosen_goes_and_the_rest_stays(arguments: list[str], left: Any, capsys: Any) -> None:
    assert main(["cache", "clean", "--yes", *arguments]) == 0
    assert listed(capsys) == left
    assert FeatureCache().get("new") is not None or ("features", "new") not in left


@pytest.mark.usefixtures("filled")
def test_nothing_goes_without_being_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["cache", "clean"]) == 2  # nobody can be asked here
    assert "add --yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert main(["cache", "clean"]) == 0
    assert len(listed(capsys)) == 3
    monkeypatch.setattr("builtins.input", lambda question: "Y")
    assert main(["cache", "clean"]) == 0
    assert listed(capsys) == []


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--kind", "feature"], "There is no kind of cache entries 'feature'. Did you mean 'features'?"),
        (["--older-than", "soon"], "'soon' is no number of days"),
        (["--older-than", "-1"], "'-1' is no number of days"),
        (["--older-than", "nan"], "'nan' is no number of days"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], reason: str, capsys: Any) -> None:
    assert main(["cache", "clean", "--yes", *arguments]) == 2
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") == 1
    assert len(listed(capsys)) == 3


@pytest.mark.usefixtures("filled")
def test_what_is_no_entry_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = cache_root()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "manifest.json").write_text(json.dumps({"format": 1, "key": "linked", "checksums": {}}))
    (root / "features" / "linked").symlink_to(elsewhere)
    (root / "notes.txt").write_text("mine")
    (root / "features" / "mine").mkdir()
    (root / "features" / "mine" / "thesis.txt").write_text("mine")
    (root / "photos" / "holiday").mkdir(parents=True)
    (root / "photos" / "holiday" / "manifest.json").write_text('{"key": "other", "format": 1, "checksums": {}}')
    FeatureCache().put("guest", ENCODED)
    (root / "features" / "guest" / "added.txt").write_text("mine")
    kept = [
        path for path in sorted(root.rglob("*")) if path.is_file() and path.parent.name not in ("new", "old", "states")
    ]
    assert main(["cache", "clean", "--yes"]) == 0
    assert [path for path in sorted(root.rglob("*")) if path.is_file()] == kept
    assert (elsewhere / "manifest.json").exists()
    assert listed(capsys) == []


def test_who_reads_an_entry_goes_on_reading_it() -> None:
    states = hidden("states")
    for entry in list_kept():
        remove(entry)
    assert list_kept() == []
    assert states.sum() == 6  # memory-mapped from a file that has no name any more
    assert hidden("states").sum() == 6  # made anew
    assert not list(cache_root().glob("*/.writing-*"))


def test_a_writer_and_a_cleaner_side_by_side() -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def clean() -> None:
        try:
            while not stop.is_set():
                for entry in list_kept():
                    remove(entry)
        except BaseException as error:
            failures.append(error)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        for number in range(60):
            FeatureCache().put(f"key-{number % 3}", ENCODED)
            found = FeatureCache().get(f"key-{number % 3}")
            assert found is None or found.features[0].input_ids.tolist() == [5, 6, 7]
    finally:
        stop.set()
        cleaner.join()
    assert not failures


def test_an_entry_that_cannot_be_removed_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    FeatureCache().put("new", ENCODED)

    def refuse(*arguments: Any, **options: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("vertebra.data.kept.tempfile.mkdtemp", refuse)
    assert main(["cache", "clean", "--yes"]) == 1
    said = capsys.readouterr()
    assert "new' stays: Permission denied." in said.err
    assert "Removed 0 entries (0 B)." in said.out


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_600, "1 MB"),
        (123_456_789, "123 MB"),
        (5e9, "5 GB"),
        (7e15, "7e+03 TB"),
    ],
)
def test_sizes(n_bytes: float, text: str) -> None:
    assert size(n_bytes) == text


def test_ages() -> None:
    assert [in_days(age) for age in (0, 0.99, 1, 2, 40.7)] == [
        "today",
        "today",
        "1 day ago",
        "2 days ago",
        "40 days ago",
    ]
