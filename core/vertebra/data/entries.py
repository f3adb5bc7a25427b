"""Cache entries: folders of files under keys, each of them whole or not there, that several processes may share.

An entry is written aside with a manifest of its key and its files' checksums, flushed to the disk, and renamed. What
does not fit its manifest is as good as absent. The cache may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

MANIFEST = "manifest.json"
ASIDE = ".writing-"
_DAY = 24 * 3600.0


def cache_root() -> Path:
    """Return `$VERTEBRA_CACHE`, else the folder `vertebra` in the user's cache."""
    if own := os.environ.get("VERTEBRA_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vertebra"


class Entries:
    """The entries below one folder: each has the same files, in the same format."""

    def __init__(self, root: Path, version: int, files: tuple[str, ...]) -> None:
        """Take the version of the format; entries of another one are not read."""
        self.root, self.version, self.files = root, version, files

    def find(self, key: str) -> Path:
        """Return the folder of an entry, every file of which is as it was written.

        Raises `FileNotFoundError` where there is none, and whatever reading it raises for one that cannot be used.
        """
        folder = self.root / key
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest["format"] != self.version:
            raise ValueError(f"format {manifest['format']}")
        if manifest["key"] != key:
            raise ValueError(f"it belongs to the key {manifest['key']}")
        for name in self.files:
            if manifest["checksums"][name] != _checksum(folder / name):
                raise ValueError(f"{name} does not fit its checksum")
        return folder

    def add(self, key: str, fill: Callable[[Path], None]) -> None:
        """Make an entry of the files that `fill` writes into a folder; `OSError` where the disk does not take them."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._sweep()
        aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=self.root))
        try:
            fill(aside)
            checksums = {name: _checksum(aside / name) for name in self.files}
            manifest = {"format": self.version, "key": key, "checksums": checksums}
            (aside / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
            for file in aside.iterdir():
                _sync(file)
            _sync_folder(aside)
            self._place(aside, key)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _place(self, aside: Path, key: str) -> None:
        """Move a whole entry to its place. One that is there holds the same, and stays; a broken one goes."""
        place = self.root / key
        if place.exists() and not self._is_whole(key):
            broken = Path(tempfile.mkdtemp(prefix=ASIDE, dir=self.root))
            try:
                place.rename(broken / key)
            except FileNotFoundError:
                pass  # another writer was faster
            finally:
                shutil.rmtree(broken, ignore_errors=True)
        try:
            aside.rename(place)
        except OSError:
            if not place.is_dir():
                raise
        _sync_folder(self.root)

    def _is_whole(self, key: str) -> bool:
        try:
            self.find(key)
        except Exception:  # whatever is wrong with it
            return False
        return True

    def _sweep(self) -> None:
        """Remove what writers that were killed left behind."""
        for left in self.root.glob(f"{ASIDE}*"):
            try:
                last_written = max(path.stat().st_mtime for path in (left, *left.iterdir()))
                if time.time() - last_written > _DAY:
                    shutil.rmtree(left, ignore_errors=True)
            except FileNotFoundError:
                pass


def _checksum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _sync(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    """Make names in a folder durable, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
