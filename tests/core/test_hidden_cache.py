"""The cache of hidden states: what was computed is what comes back; what is damaged is computed anew."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vertebra.engine.hidden_cache import HiddenCache
from vertebra.tasks.features import Hidden

ROWS = np.random.default_rng(0).standard_normal((70, 8), dtype=np.float32)


class Computation:
    """Computes the rows in blocks, and counts how often."""

    def __init__(self, rows: Hidden = ROWS) -> None:
        self.rows, self.times = rows, 0

    def __call__(self) -> Iterator[Hidden]:
        self.times += 1
        yield from np.array_split(self.rows, 7)


def test_what_is_computed_comes_back_and_is_computed_once(tmp_path: Path) -> None:
    compute = Computation()
    first = HiddenCache(tmp_path).get_or_compute("key", ROWS.shape, compute)
    again = HiddenCache(tmp_path).get_or_compute("key", ROWS.shape, compute)
    assert np.array_equal(first, ROWS) and np.array_equal(again, ROWS)
    assert again.dtype == np.float32 and not again.flags.writeable
    assert compute.times == 1
    HiddenCache(tmp_path).get_or_compute("other", ROWS.shape, compute)
    assert compute.times == 2


def test_a_split_without_positions(tmp_path: Path) -> None:
    for _ in range(2):
        found = HiddenCache(tmp_path).get_or_compute("key", (0, 8), list)
        assert found.shape == (0, 8)


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7), name=st.sampled_from(["hidden.npy", "manifest.json"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_flipped_bit_is_never_believed(tmp_path: Path, place: int, bit: int, name: str) -> None:
    cache = HiddenCache(tmp_path)
    shutil.rmtree(cache.root, ignore_errors=True)
    cache.get_or_compute("key", ROWS.shape, Computation())
    file = cache.root / "key" / name
    content = bytearray(file.read_bytes())
    content[place % len(content)] ^= 1 << bit
    file.write_bytes(content)
    assert np.array_equal(cache.get_or_compute("key", ROWS.shape, Computation()), ROWS)
    compute = Computation()
    assert np.array_equal(cache.get_or_compute("key", ROWS.shape, compute), ROWS)
    assert compute.times == 0, "it was made anew"


def cut_off(entry: Path) -> None:
    os.truncate(entry / "hidden.npy", 500)


def swap_rows(entry: Path) -> None:
    np.save(entry / "hidden.npy", ROWS[::-1])


def empty(entry: Path) -> None:
    (entry / "hidden.npy").write_bytes(b"")


def write_a_pickle(entry: Path) -> None:
    np.save(entry / "hidden.npy", np.asarray([{"a": 1}], dtype=object))


def take_another_key(entry: Path) -> None:
    manifest = json.loads((entry / "manifest.json").read_text())
    (entry / "manifest.json").write_text(json.dumps({**manifest, "key": "another"}))


def take_another_format(entry: Path) -> None:
    manifest = json.loads((entry / "manifest.json").read_text())
    (entry / "manifest.json").write_text(json.dumps({**manifest, "format": 0}))


def become_a_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("a file, not a folder")


@pytest.mark.parametrize(
    "damage", [cut_off, swap_rows, empty, write_a_pickle, take_another_key, take_another_format, become_a_file]
)
def test_a_damaged_or_foreign_entry_is_computed_anew_with_one_line(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = HiddenCache(tmp_path)
    cache.get_or_compute("key", ROWS.shape, Computation())
    damage(cache.root / "key")
    compute = Computation()
    assert np.array_equal(cache.get_or_compute("key", ROWS.shape, compute), ROWS)
    assert compute.times == 1
    (said,) = caplog.messages
    assert "computed anew" in said and "\n" not in said
    assert np.array_equal(cache.get_or_compute("key", ROWS.shape, compute), ROWS)
    assert compute.times == 1, "it was kept"


def test_an_entry_of_another_shape_is_not_used(tmp_path: Path) -> None:
    cache = HiddenCache(tmp_path)
    cache.get_or_compute("key", ROWS.shape, Computation())
    narrow = np.ascontiguousarray(ROWS[:, :4])
    assert np.array_equal(cache.get_or_compute("key", narrow.shape, Computation(narrow)), narrow)


def test_a_place_that_cannot_be_written_leaves_it_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    found = HiddenCache(tmp_path / "file").get_or_compute("key", ROWS.shape, Computation())
    assert np.array_equal(found, ROWS)
    assert "stay in memory" in caplog.messages[-1] and "VERTEBRA_CACHE=FOLDER" in caplog.messages[-1]


def test_a_full_disk_leaves_it_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        compute = Computation()
        found = HiddenCache(tmp_path).get_or_compute("key", ROWS.shape, compute)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert np.array_equal(found, ROWS)
    assert compute.times == 1, "the disk was asked before anything was computed"
    assert "stay in memory" in caplog.text
    assert not list((tmp_path / "hidden").glob(".writing-*")) and not (tmp_path / "hidden" / "key").exists()


# --- several processes

spawn = multiprocessing.get_context("spawn")


def compute_slowly(root: Path, log: Path) -> None:
    def compute() -> Iterator[Hidden]:
        with log.open("a") as file:
            file.write("computed\n")
        for block in np.array_split(ROWS, 7):
            time.sleep(0.1)
            yield block

    found = HiddenCache(root).get_or_compute("key", ROWS.shape, compute)
    assert np.array_equal(found, ROWS)


def damage_and_compute_often(root: Path, times: int) -> None:
    cache = HiddenCache(root)
    for number in range(times):
        if number % 3 == 0:
            shutil.rmtree(cache.root / "key", ignore_errors=True)
        assert np.array_equal(cache.get_or_compute("key", ROWS.shape, Computation()), ROWS)


def compute_endlessly(root: Path) -> None:
    def compute() -> Iterator[Hidden]:
        yield ROWS[:10]
        time.sleep(600)

    HiddenCache(root).get_or_compute("key", ROWS.shape, compute)


def run_two(target: Callable[..., None], *arguments: Any) -> None:
    processes = [spawn.Process(target=target, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0


def test_of_two_processes_one_computes_and_the_other_waits(tmp_path: Path) -> None:
    run_two(compute_slowly, tmp_path, tmp_path / "log")
    assert (tmp_path / "log").read_text() == "computed\n"


def test_two_writers_at_once_are_harmless(tmp_path: Path) -> None:
    run_two(damage_and_compute_often, tmp_path, 30)
    compute = Computation()
    assert np.array_equal(HiddenCache(tmp_path).get_or_compute("key", ROWS.shape, compute), ROWS)
    assert compute.times == 0
    assert sorted(entry.name for entry in (tmp_path / "hidden").iterdir()) == [".key.lock", "key"]


def test_a_killed_writer_leaves_no_half_entry_and_no_lock(tmp_path: Path) -> None:
    writer = spawn.Process(target=compute_endlessly, args=(tmp_path,))
    writer.start()
    deadline = time.monotonic() + 120
    while not list((tmp_path / "hidden").glob(".writing-*/hidden.npy")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    cache = HiddenCache(tmp_path)
    (left,) = cache.root.glob(".writing-*")
    old = time.time() - 2 * 24 * 3600
    for path in (*left.iterdir(), left):
        os.utime(path, (old, old))
    assert np.array_equal(cache.get_or_compute("key", ROWS.shape, Computation()), ROWS)
    assert not left.exists(), "what the killed one left is swept away"
