"""Sentence pairs, one a line: a sentence, a tab, its translation, and perhaps more columns, which are not read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertebra.config.schema import DataConfig, Strict
from vertebra.data.files import listed, text_lines
from vertebra.data.options import reader_options
from vertebra.data.readers import NotedRows
from vertebra.data.splits import TEST, TRAIN, VALID
from vertebra.errors import DataError


@dataclass(frozen=True)
class PairsOptions(Strict):
    """What `data.options` may set."""

    skip_bad_lines: bool = False
    """Leave out lines without a tab, or with nothing before or behind it; how many stands in the report."""


def read(config: DataConfig) -> NotedRows:
    """Return the pairs of a file, cut into splits by a hash of the seed and the sentence.

    So a sentence that has several translations stands in one split alone, and in the same one whatever else is in the file.
    Raises `DataError` for a line that is no pair.
    """
    options = reader_options(PairsOptions, config)
    if config.path is None:
        raise DataError("data.path is not set. Give the file of sentence pairs.")
    file = _only_file(Path(config.path).expanduser())
    splits: dict[str, list[dict[str, Any]]] = {TRAIN: [], VALID: [], TEST: []}
    bad: list[int] = []
    for number, line in enumerate(text_lines(file, config.encoding), start=1):
        source, target, *_ = [*(part.strip() for part in line.rstrip("\r\n").split("\t")), ""]
        if source and target:
            row = {"id": f"line-{number}", "source": source, "target": target}
            splits[split_of(source, config)].append(row)
            continue
        if not options.skip_bad_lines:
            raise DataError(
                f"{file}:{number}: no sentence, tab and translation: {line.strip()!r:.80}. Mend that line, or set "
                "data.options.skip_bad_lines=true."
            )
        bad.append(number)
    notes = ["splits cut by a hash of the source sentence: no sentence stands in two of them"]
    if bad:
        notes.append(f"{len(bad)} lines without a translation were skipped: {listed([str(one) for one in bad])}")
    return NotedRows({split: rows for split, rows in splits.items() if rows}, notes)


def split_of(sentence: str, config: DataConfig) -> str:
    """Return the split of a sentence, a function of the sentence and of `data.split_seed`."""
    digest = hashlib.blake2b(f"{config.split_seed}:{sentence}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest) / 2**64
    if place < config.test_fraction:
        return TEST
    return VALID if place < config.test_fraction + config.valid_fraction else TRAIN


def _only_file(path: Path) -> Path:
    """Return the file, or the only one of a folder."""
    if not path.is_dir():
        return path
    files = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
    if len(files) != 1:
        raise DataError(
            f"'{path}' holds {listed([one.name for one in files])}; set data.path to the file of the pairs."
        )
    return files[0]
