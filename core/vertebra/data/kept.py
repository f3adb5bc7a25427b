"""What the caches hold, and how it is cleaned: entries of `vertebra.data.entries`, and nothing else in these folders."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vertebra.data.entries import ASIDE, MANIFEST, cache_root

DAY = 24 * 3600.0


@dataclass(frozen=True)
class Kept:
    """One entry of a cache."""

    kind: str
    """The folder that it is in, such as `features`."""
    path: Path
    size: int
    """Bytes of its files."""
    written: float
    """When it was made, in seconds since 1970."""

    def age(self, now: float | None = None) -> float:
        """Return how many days ago it was made; never below 0."""
        return max(0.0, (time.time() if now is None else now) - self.written) / DAY


def list_kept(root: Path | None = None) -> list[Kept]:
    """Return all entries below the root of the caches, by kind and age, the oldest first; none where there is no root.

    An entry that another process removes meanwhile is left out.
    """
    root = root or cache_root()
    found = [one for kind in _folders(root) for folder in _folders(kind) if (one := _read(kind.name, folder))]
    return sorted(found, key=lambda one: (one.kind, one.written, one.path.name))


def chosen(entries: Iterable[Kept], kinds: Sequence[str], older_than: float) -> list[Kept]:
    """Return the entries of these kinds (of all, where none is named) that were made more than so many days ago."""
    return [one for one in entries if (not kinds or one.kind in kinds) and one.age() >= older_than]


def remove(entry: Kept) -> None:
    """Remove an entry: it is gone at once, and its files a moment later. `OSError` where the system refuses.

    A process that has opened it keeps what it reads (where the system lets go of open files); one that looks for it
    later finds none, and makes it anew. An entry that is gone already is no error.
    """
    if _read(entry.kind, entry.path) is None:
        return
    aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=entry.path.parent))  # what is left of it, the next writer removes
    try:
        entry.path.rename(aside / entry.path.name)
    except FileNotFoundError:
        pass  # another process was faster
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, without links and hidden ones."""
    try:
        with os.scandir(folder) as entries:
            return [Path(one) for one in entries if one.is_dir(follow_symlinks=False) and not one.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(kind: str, folder: Path) -> Kept | None:
    """Return a folder as an entry; None where it has anything but a manifest of its own name and the files in that."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files = list(folder.iterdir())
        own = {MANIFEST, *manifest["checksums"]}
        if manifest["key"] != folder.name or "format" not in manifest or any(file.name not in own for file in files):
            return None
        size = sum(file.lstat().st_size for file in files)
        return Kept(kind, folder, size, (folder / MANIFEST).stat().st_mtime)
    except (OSError, ValueError, KeyError, TypeError):
        return None
