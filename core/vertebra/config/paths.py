"""Paths that a user types, which of them are local, and whether they exist; and the encoding of what they hold."""

from __future__ import annotations

import os
import re
from encodings.aliases import aliases
from pathlib import Path

from vertebra.errors import ConfigError
from vertebra.names import did_you_mean

_HUB_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)?")
_FILE_ENDINGS = {
    ".csv",
    ".tsv",
    ".json",
    ".jsonl",
    ".parquet",
    ".ndjson",
    ".txt",
    ".conll",
    ".bmes",
    ".bioes",
    ".bio",
    ".iob",
    ".iob2",
    ".gz",
    ".xz",
}


def expand(path: str) -> str:
    """Return a path with `~` at its start replaced by the home folder; any other path as it is."""
    return os.path.expanduser(path)  # noqa: PTH111  (pathlib would also rewrite `./x`, and fails for an unknown user)


def is_file(path: str) -> bool:
    """Whether a path leads to a file."""
    return os.path.isfile(expand(path))  # noqa: PTH113  (pathlib raises for what can be no path)


def is_local(path: str) -> bool:
    """Whether a path means this machine: it can be no Hub name, ends like a file, or begins with a folder."""
    if not _HUB_NAME.fullmatch(path) or Path(path).suffix.lower() in _FILE_ENDINGS:
        return True
    return os.path.exists(path.partition("/")[0])  # noqa: PTH110  (pathlib raises for what can be no path)


def check_encoding(name: str) -> None:
    """Raise `ConfigError` where Python has no text encoding of that name."""
    try:
        "".encode(name)
    except LookupError:
        near = did_you_mean(name, set(aliases.values()))
        raise ConfigError(f"There is no text encoding '{name}'.{near} Common ones: utf-8, latin-1, gb18030.") from None


def check_path(setting: str, path: str) -> None:
    """Raise `ConfigError` when `path` is local and nothing is there; `setting` names it in the message."""
    if not is_local(path) or os.path.exists(expand(path)):  # noqa: PTH110
        return
    asked = "" if Path(expand(path)).is_absolute() else f" (looked from {Path.cwd()})"
    raise ConfigError(f"{setting}={path}: there is no such file or folder{asked}.")
