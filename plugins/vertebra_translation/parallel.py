"""Parallel text files: line n of one is the translation of line n of the other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from vertebra.config.schema import DataConfig, Strict
from vertebra.data.files import COMPRESSED, listed, missing, text_lines
from vertebra.data.formats import PlacedRow
from vertebra.data.options import reader_options
from vertebra.data.splits import ALIASES, SPLITS
from vertebra.errors import DataError


@dataclass(frozen=True)
class ParallelOptions(Strict):
    """What `data.options` may set: how the names of the files of both languages end."""

    source: str = "en"
    target: str = "de"


def read(config: DataConfig) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of `train.en` and `train.de`, and of the other splits, as rows with `source` and `target`.

    `data.splits` may name a split's files without the ending, or a list of such names. Raises `DataError` where two files
    have not equally many lines.
    """
    options = reader_options(ParallelOptions, config)
    if config.path is None:
        raise DataError("data.path is not set. Give the folder of the files.")
    folder = Path(config.path).expanduser()
    if not folder.is_dir():
        raise DataError(
            missing(folder) if not folder.exists() else f"'{folder}' is a file; give the folder of both files."
        )
    rows = {
        split: [row for both in files for row in aligned(*both, config.encoding)]
        for split in SPLITS
        if (files := _files(folder, split, config, options))
    }
    if not rows:
        names = [path.name for path in sorted(folder.iterdir())]
        raise DataError(
            f"'{folder}' has no pair of files such as train.{options.source} and train.{options.target}; it holds: "
            f"{listed(names)}. Set data.options.source and data.options.target to what their names end in."
        )
    return rows


def aligned(source: Path, target: Path, encoding: str) -> list[dict[str, Any]]:
    """Return the pairs of lines of two files; `DataError` with both counts where they differ."""
    sources, targets = ([line.rstrip("\r\n") for line in text_lines(path, encoding)] for path in (source, target))
    if len(sources) != len(targets):
        raise DataError(
            f"'{source}' has {len(sources)} lines and '{target}' has {len(targets)}: line n of one must be the translation "
            "of line n of the other. A line is missing, or was cut in two."
        )
    return [
        PlacedRow({"source": one, "target": other}, f"{source.name} and {target.name}, line {number}")
        for number, (one, other) in enumerate(zip(sources, targets, strict=True), start=1)
    ]


def _files(folder: Path, split: str, config: DataConfig, options: ParallelOptions) -> list[tuple[Path, Path]]:
    """Return both files of each part of a split, nothing where there are none; `DataError` where one is missing."""
    if split not in config.splits:
        elsewhere = {name for other in config.splits for name in _given(other, config)}
        found = (_both(folder, stem, options) for stem in ALIASES[split] if stem not in elsewhere)
        return list(islice(filter(None, found), 1))
    files = [(stem, _both(folder, stem, options)) for stem in _given(split, config)]
    lacking = next((stem for stem, both in files if both is None), None)
    if lacking is not None or not files:
        place = missing(folder / f"{lacking}.{options.source}") if files else "the list of names is empty."
        raise DataError(f"data.splits.{split}: {place}")
    return [both for _, both in files if both is not None]


def _given(split: str, config: DataConfig) -> list[str]:
    """Return the names that `data.splits` has for a split."""
    names = config.splits[split]
    return [names] if isinstance(names, str) else list(names)


def _both(folder: Path, stem: str, options: ParallelOptions) -> tuple[Path, Path] | None:
    """Return the files of both languages, None where there is neither; `DataError` where one is missing."""
    source, target = (_file(folder, f"{stem}.{language}") for language in (options.source, options.target))
    if source is not None and target is not None:
        return source, target
    if source is None and target is None:
        return None
    lacking = options.source if source is None else options.target
    raise DataError(f"{missing(folder / f'{stem}.{lacking}')} Each split needs a file of both languages.")


def _file(folder: Path, name: str) -> Path | None:
    return next((path for end in ("", *COMPRESSED) if (path := folder / f"{name}{end}").is_file()), None)
