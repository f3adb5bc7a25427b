"""Splits: which file is which, and what is cut from the training rows where a split is missing."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TypeVar

from vertebra.config.paths import is_local
from vertebra.config.schema import DataConfig
from vertebra.data.files import listed, missing
from vertebra.data.formats import SUFFIXES, bare_name, format_of
from vertebra.errors import DataError
from vertebra.names import did_you_mean, unknown

T = TypeVar("T")

TRAIN, VALID, TEST = SPLITS = ("train", "valid", "test")
ALIASES = {
    TRAIN: ("train", "training"),
    VALID: (
        "valid",
        "validation",
        "val",
        "dev",
        "development",
        "testa",
    ),  # testa, testb: the names of CoNLL's own files
    TEST: ("test", "testing", "testb"),
}
"""What the files of a split may be called."""
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


def on_hub(path: str) -> bool:
    """Whether `data.path` is a name on the Hub (`owner/name`): it neither exists here nor looks like a local path.

    What looks local is an error if it does not exist, never a request; `data.format=hub` asks the Hub all the same.
    """
    here = Path(path)
    return not is_local(path) and bare_name(here) == here.name


def find_files(data: DataConfig) -> dict[str, list[Path]]:
    """Return the files of each split; a split may be in several (`train-00000-of-00002.parquet`, or as configured).

    A single file is the training split, whatever an option's `data.splits` says of its own; a run for which a user gives
    both is refused when it is composed. In a folder, splits are those of `data.splits`, and the others are found by the names
    of the files: `train.txt`, `dev.tsv`, `books.test.jsonl.gz`.
    """
    if data.path is None:
        raise DataError("data.path is not set. Give a folder, a file, or the name of a data set on the Hub.")
    check_names(data)
    root = Path(data.path).expanduser()
    if not root.exists():
        raise DataError(f"{missing(root)} (A data set on the Hub is named OWNER/NAME.)")
    if root.is_file():
        others = {split: names for split, names in data.splits.items() if split != TRAIN}
        return {TRAIN: [root]} | {split: _given(root.parent, split, names) for split, names in others.items()}
    found = {split: _given(root, split, names) for split, names in data.splits.items()}
    given = {path for paths in found.values() for path in paths}
    visible = (entry for entry in root.iterdir() if entry.is_file() and not entry.name.startswith("."))
    entries = sorted(entry for entry in visible if entry not in given)
    found |= _assign(_of_format(entries, data), [split for split in SPLITS if split not in found])
    if not found:
        found = {TRAIN: [_only(root, entries)]}
    return found


def find_format(data: DataConfig) -> str:
    """Return the name of the reader for `data.format=auto`."""
    if data.path is not None and on_hub(data.path):
        return "hub"
    files = find_files(data)
    first = next(files[split][0] for split in SPLITS if split in files)
    name = format_of(first, data)
    if name == "text":
        raise DataError(
            f"Cannot tell the format of '{first}' by its name or content. Set data.format: columns, csv, tsv, json or "
            "parquet."
        )
    return name


def pick_splits(data: DataConfig, names: Sequence[str]) -> dict[str, str]:
    """Return which of a data set's named splits is train, valid and test: as configured, else by name."""
    check_names(data)
    picked: dict[str, str] = {}
    for split, name in data.splits.items():
        if not isinstance(name, str):
            raise DataError(f"data.splits.{split}: several files can make a split, several splits of the Hub cannot.")
        picked[split] = name
        if name not in names:
            raise DataError(f"data.splits.{split}: {unknown('split', name, names)}")
    for split in SPLITS:
        free = [name for name in names if name not in picked.values()]
        alias = next((alias for alias in ALIASES[split] if alias in free), None)
        if split not in picked and alias:
            picked[split] = alias
    return picked if picked else {TRAIN: names[0]} if len(names) == 1 else {}


def cut(
    rows: Sequence[T], data: DataConfig, wanted: Sequence[str], together: Callable[[T], Hashable] | None = None
) -> dict[str, list[T]]:
    """Cut the wanted splits (of valid, test) from the training rows; what is left is train.

    Which rows are taken depends on their number and on `data.split_seed` alone, on every machine and in every version:
    the rows with the smallest hashes of (seed, place). Rows for which `together` gives the same come into the same split;
    the first of them decides. Each split keeps the order of the rows.
    """
    groups: dict[Hashable, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(together(row) if together else place, []).append(place)
    left = deque(sorted(groups.values(), key=lambda group: _rank(data.split_seed, group[0])))
    result: dict[str, list[T]] = {}
    for split, fraction in ((TEST, data.test_fraction), (VALID, data.valid_fraction)):
        if split in wanted and fraction > 0:
            wanted_rows, taken = max(1, round(fraction * len(rows))), list[int]()
            while len(taken) < wanted_rows and len(left) > 1:
                taken += left.popleft()
            if taken:
                result[split] = [rows[place] for place in sorted(taken)]
    return {TRAIN: [rows[place] for place in sorted(place for group in left for place in group)]} | result


def _rank(seed: int, place: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{place}".encode(), digest_size=8).digest()


def check_names(data: DataConfig) -> None:
    """Raise `DataError` where `data.splits` names what is no split."""
    for split in data.splits:
        if split not in SPLITS:
            raise DataError(f"data.splits: {unknown('split', split, SPLITS)}")


def _given(folder: Path, split: str, names: str | Sequence[str]) -> list[Path]:
    paths = [folder / Path(name).expanduser() for name in ([names] if isinstance(names, str) else names)]
    if not paths:
        raise DataError(f"data.splits.{split}: the list of files is empty.")
    for path in paths:
        if not path.exists():
            raise DataError(f"data.splits.{split}: {missing(path)}")
    return paths


def _of_format(entries: list[Path], data: DataConfig) -> list[Path]:
    """Leave out files of other formats where one is asked for and some files have it."""
    fitting = [path for path in entries if SUFFIXES.get(_suffix(path)) == data.format]
    return fitting or entries


def _suffix(path: Path) -> str:
    return path.name.removeprefix(bare_name(path)).split(".gz")[0].split(".xz")[0].lower()


def _assign(entries: list[Path], wanted: Sequence[str]) -> dict[str, list[Path]]:
    """Return the files of each wanted split that some name; a file called exactly so comes before longer names.

    `DataError` where several files could be a split, or one file several splits: it must not be in two of them.
    """
    stems = {path: _SHARD.sub("", bare_name(path)).lower() for path in entries}
    words = {path: set(re.split(r"[^a-z]+", stem)) for path, stem in stems.items()}
    found: dict[str, list[Path]] = {}
    for split in wanted:
        exact = [path for path, stem in stems.items() if stem in ALIASES[split]]
        files = exact or [path for path in entries if words[path] & set(ALIASES[split])]
        if len({path.name if not _SHARD.search(bare_name(path)) else stems[path] for path in files}) > 1:
            names = listed([path.name for path in files])
            raise DataError(f"Several files could be the split '{split}': {names}. Name one: data.splits.{split}=FILE.")
        for path in files:
            named = [other for other in SPLITS if words[path] & set(ALIASES[other])]
            if len(named) > 1:
                raise DataError(
                    f"'{path.name}' could be the split {' or '.join(map(repr, named))}. Say which file is which: "
                    f"data.splits.{split}=FILE."
                )
        if files:
            found[split] = files
    return found


def _only(root: Path, entries: list[Path]) -> Path:
    """Return the one data file of a folder without split names."""
    known = [path for path in entries if _suffix(path) in SUFFIXES]
    if len(known) != 1:
        names = [path.name for path in entries]
        near = did_you_mean(TRAIN, [bare_name(path) for path in entries])
        raise DataError(
            f"'{root}' has no files named train, valid (or dev) and test; it holds: {listed(names)}.{near} Name "
            "them, as in data.splits.train=FILE."
        )
    return known[0]
