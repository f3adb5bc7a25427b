"""The cache of encoded features: what is put is what comes back, or nothing does."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vertebra.data import cache as cache_module
from vertebra.data.cache import Encoded, FeatureCache
from vertebra.data.entries import cache_root
from vertebra.tasks.features import Features

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
numbers = st.lists(st.integers(-100, 2**31 - 1), max_size=6)


@st.composite
def one_features(draw: st.DrawFn) -> Features:
    ids = draw(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=8))
    positions = draw(st.none() | st.lists(st.integers(0, len(ids) - 1), max_size=8))
    return Features(
        ids,
        target=draw(values | numbers),
        positions=positions,
        note=draw(st.dictionaries(st.text(), values, max_size=2)),
        example=draw(st.integers(0, 10**9)),
        window=draw(st.integers(0, 100)),
        attention=draw(st.sampled_from([None, "causal", "bidirectional"])),
    )


encoded_splits = st.builds(Encoded, st.lists(one_features(), max_size=5), st.integers(0, 100))


def as_plain(encoded: Encoded | None) -> Any:
    """Return all that is in an encoded split, types included."""
    if encoded is None:
        return None
    return encoded.too_long, [
        (
            one.input_ids.tolist(),
            one.input_ids.dtype,
            one.positions.tolist(),
            one.positions.dtype,
            repr(one.target),
            repr(one.note),
            one.example,
            one.window,
            one.attention,
        )
        for one in encoded.features
    ]


SAMPLE = Encoded(
    [
        Features([5, 6, 7], target=[1, -100], positions=[0, 2], example=0),
        Features([8], target="yes", note={"offsets": [[0, 1]]}, example=1),
        Features([9, 9], target=0.5, example=2, window=1),
        Features([4], target=3, positions=[], example=3),
        Features([3], target=None, example=4),
    ],
    too_long=2,
)


@given(encoded=encoded_splits)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_put_comes_back(tmp_path: Path, encoded: Encoded) -> None:
    cache = FeatureCache(tmp_path)
    shutil.rmtree(cache.root, ignore_errors=True)
    assert cache.get("key") is None
    cache.put("key", encoded)
    assert as_plain(cache.get("key")) == as_plain(encoded)
    assert cache.get("other") is None


def test_features_that_come_back_can_be_used(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.put("key", SAMPLE)
    found = cache.get("key")
    assert found is not None
    first = found.features[0]
    assert first.per_position and first.n_targets == 2 and len(first) == 3
    assert first.truncated(1).target == [1]
    assert first.input_ids.dtype == np.int32


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7), name=st.sampled_from(["features", "rest", "manifest"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_flipped_bit_is_never_believed(tmp_path: Path, place: int, bit: int, name: str) -> None:
    cache = FeatureCache(tmp_path)
    shutil.rmtree(cache.root, ignore_errors=True)
    cache.put("key", SAMPLE)
    (file,) = (cache.root / "key").glob(f"{name}.*")
    content = bytearray(file.read_bytes())
    content[place % len(content)] ^= 1 << bit
    file.write_bytes(content)
    assert as_plain(cache.get("key")) in (None, as_plain(SAMPLE))  # a space in the manifest may become another
    cache.put("key", SAMPLE)
    assert as_plain(cache.get("key")) == as_plain(SAMPLE), "it was made anew"


@pytest.mark.parametrize("name", ["features.safetensors", "rest.jsonl", "manifest.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]", b"\0" * 100, b"\x80\x04pickle"])
def test_missing_cut_and_foreign_files_are_a_miss(tmp_path: Path, name: str, content: bytes | None) -> None:
    cache = FeatureCache(tmp_path)
    cache.put("key", SAMPLE)
    file = cache.root / "key" / name
    file.unlink() if content is None else file.write_bytes(content)
    assert cache.get("key") is None
    cache.put("key", SAMPLE)
    assert as_plain(cache.get("key")) == as_plain(SAMPLE)


def test_an_entry_at_the_place_of_another_is_a_miss(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.put("one", SAMPLE)
    (cache.root / "one").rename(cache.root / "two")
    assert cache.get("two") is None
    (cache.root / "three").write_text("a file, not a folder")
    assert cache.get("three") is None
    cache.put("three", SAMPLE)
    assert as_plain(cache.get("three")) == as_plain(SAMPLE)


def test_an_entry_of_another_format_is_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(tmp_path)
    cache.put("key", SAMPLE)
    monkeypatch.setattr(cache_module, "FORMAT", 3)
    cache = FeatureCache(tmp_path)
    assert cache.get("key") is None
    cache.put("key", SAMPLE)
    manifest = json.loads((cache.root / "key" / "manifest.json").read_text())
    assert manifest["format"] == 3 and cache.get("key") is not None


def test_a_place_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    cache = FeatureCache(tmp_path / "file")
    cache.put("key", SAMPLE)
    assert "VERTEBRA_CACHE=FOLDER" in caplog.text
    assert cache.get("key") is None


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VERTEBRA_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"
    monkeypatch.delenv("VERTEBRA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "vertebra"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "vertebra"


# --- several processes

spawn = multiprocessing.get_context("spawn")


def put_often(root: Path, times: int) -> None:
    cache = FeatureCache(root)
    for number in range(times):
        for key in ("one", "two"):
            if number % 3 == 0:
                shutil.rmtree(cache.root / key, ignore_errors=True)
            cache.put(key, SAMPLE)


def put_endlessly(root: Path) -> None:
    big = Encoded(SAMPLE.features * 20_000, 0)
    cache = FeatureCache(root)
    while True:
        shutil.rmtree(cache.root / "key", ignore_errors=True)
        cache.put("key", big)


def test_two_writers_at_once_are_harmless(tmp_path: Path) -> None:
    writers = [spawn.Process(target=put_often, args=(tmp_path, 30)) for _ in range(2)]
    for writer in writers:
        writer.start()
    cache = FeatureCache(tmp_path)
    while any(writer.is_alive() for writer in writers):
        assert as_plain(cache.get("one")) in (None, as_plain(SAMPLE))
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert as_plain(cache.get("two")) == as_plain(SAMPLE)
    assert sorted(entry.name for entry in cache.root.iterdir()) == ["one", "two"], "nothing is left beside them"


def test_a_killed_writer_leaves_no_half_entry(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    writer = spawn.Process(target=put_endlessly, args=(tmp_path,))
    writer.start()
    deadline = time.monotonic() + 120
    while not list(cache.root.glob(".writing-*")) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    found = cache.get("key")
    assert found is None or len(found.features) == 100_000
    old = time.time() - 2 * 24 * 3600
    for left in cache.root.glob(".writing-*"):
        os.utime(left, (old, old))
    cache.put("key", SAMPLE)
    assert [entry.name for entry in cache.root.iterdir()] == ["key"], "what the killed one left is swept away"
    assert cache.get("key") is not None
