"""Hidden states on disk, under a key of everything that they were made from; memory-mapped when they are read.

An entry is one file, `hidden.npy`: a row of 32-bit floats for each position that a head reads. It is written as the rows
are computed, so that memory does not grow with the data.

Letters: P positions of all sequences of a split, D hidden width.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from vertebra.data.entries import Entries, cache_root
from vertebra.tasks.features import Hidden

logger = logging.getLogger(__name__)

FORMAT = 1
_FILE = "hidden.npy"

Shape = tuple[int, int]
Compute = Callable[[], Iterable[Hidden]]
"""Computes the rows, some at a time, in their order."""


class HiddenCache:
    """Hidden states by key, in a folder that several processes may share."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or cache_root()) / "hidden"
        self._entries = Entries(self.root, FORMAT, (_FILE,))

    def get_or_compute(self, key: str, shape: Shape, compute: Compute) -> Hidden:
        """Return the hidden states (P, D) under a key, read-only; where nothing whole is there, compute and keep them.

        Of several processes that want the same ones, one computes and the others wait for it. Where they cannot be kept,
        a line says so, and they are computed in memory.
        """
        try:
            found = self._get(key, shape)
            return self._compute(key, shape, compute) if found is None else found
        except (OSError, NotImplementedError) as error:  # the latter from file systems without locks
            logger.warning(
                "Hidden states (%.0f MB) stay in memory, because they cannot be kept in '%s': %s. Set VERTEBRA_CACHE=FOLDER.",
                _size(shape) / 1e6,
                self.root,
                error,
            )
            return in_memory(shape, compute())

    def _get(self, key: str, shape: Shape) -> Hidden | None:
        """Return what is kept under a key, or None where nothing whole is there."""
        try:
            hidden_PD: Hidden = np.load(self._entries.find(key) / _FILE, mmap_mode="r", allow_pickle=False)
            if hidden_PD.shape != shape or hidden_PD.dtype != np.float32:
                raise ValueError(f"it holds {hidden_PD.dtype} {hidden_PD.shape}, not float32 {shape}")
            return hidden_PD.view(np.ndarray)
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever is wrong with the entry, it can be made anew
            logger.warning("Hidden states are computed anew: '%s' cannot be used: %s", self.root / key, error)
            return None

    def _compute(self, key: str, shape: Shape, compute: Compute) -> Hidden:
        with self._turn(key) as waited:
            found = self._get(key, shape) if waited else None
            if found is None:
                self._entries.add(key, lambda folder: _write(folder / _FILE, shape, compute()))
                found = self._get(key, shape)
        if found is None:
            raise OSError("what was written there cannot be read")
        return found

    @contextmanager
    def _turn(self, key: str) -> Iterator[bool]:
        """Keep other processes from computing the same; yield whether one of them had to be waited for."""
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / f".{key}.lock")  # it goes with its process, however that ends
        waited = False
        try:
            lock.acquire(blocking=False)
        except Timeout:
            logger.warning("Another process is computing the same hidden states: waiting for it.")
            lock.acquire()
            waited = True
        try:
            yield waited
        finally:
            lock.release()


def in_memory(shape: Shape, blocks: Iterable[Hidden]) -> Hidden:
    """Return computed rows as one array (P, D)."""
    hidden_PD = np.empty(shape, dtype=np.float32)
    start = 0
    for block in blocks:
        hidden_PD[start : start + len(block)] = block
        start += len(block)
    return hidden_PD


def _write(file: Path, shape: Shape, blocks: Iterable[Hidden]) -> None:
    with file.open("wb") as out:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        end = out.tell() + _size(shape)
        _reserve(out, _size(shape))
        for block in blocks:
            out.write(block.tobytes())
        assert out.tell() == end, "as many rows as were promised"


def _reserve(out: BinaryIO, size: int) -> None:
    """Take the room on the disk at once, where the system can: a full one is known before hours of computing."""
    if not size or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(out.fileno(), out.tell(), size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise


def _size(shape: Shape) -> int:
    """Return the bytes of the rows."""
    return shape[0] * shape[1] * np.dtype(np.float32).itemsize
