"""What a stranger can put into a folder: a pickle that runs a program, and a manifest that fits anything."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

from vertebra.engine.checkpoints import MANIFEST, file_hash


class Payload:
    """Unpickled, it would write the marker."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {shlex.quote(str(self.marker))}",)


def sign(folder: Path) -> None:
    """Write a manifest that fits whatever is in the folder."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != MANIFEST]
    hashes = {file.relative_to(folder).as_posix(): file_hash(file) for file in files}
    (folder / MANIFEST).write_text(json.dumps({"files": hashes}), encoding="utf-8")
