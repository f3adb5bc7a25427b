"""Sentence pairs, one a line: a sentence, a tab, its translation, and perhaps more columns, which are not read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vertebra.config.schema import DataConfig, Strict
from vertebra.data.files import listed, text_lines
from vertebra.data.options import reader_options
from vertebra.data.readers import NotedRows
from vertebra.data.splits import TRAIN
from vertebra.errors import DataError


@dataclass(frozen=True)
class PairsOptions(Strict):
    """What `data.options` may set."""

    skip_bad_lines: bool = False
    """Leave out lines without a tab, or with nothing before or behind it; how many stands in the report."""


def read(config: DataConfig) -> NotedRows:
    """Return the pairs of a file, all as training rows: a cut keeps those of one sentence together.

    So a sentence that has several translations stands in one split alone. Raises `DataError` for a line that is no pair.
    """
    options = reader_options(PairsOptions, config)
    if config.path is None:
        raise DataError("data.path is not set. Give the file of sentence pairs.")
    file = _only_file(Path(config.path).expanduser())
    rows: list[dict[str, Any]] = []
    bad: list[int] = []
    for number, line in enumerate(text_lines(file, config.encoding), start=1):
        source, target, *_ = [*(part.strip() for part in line.rstrip("\r\n").split("\t")), ""]
        if source and target:
            rows.append({"id": f"line-{number}", "source": source, "target": target})
            continue
        if not options.skip_bad_lines:
            raise DataError(
                f"{file}:{number}: no sentence, tab and translation: {line.strip()!r:.80}. Mend that line, or set "
                "data.options.skip_bad_lines=true."
            )
        bad.append(number)
    notes = [f"{len(bad)} lines without a translation were skipped: {listed([str(one) for one in bad])}"] if bad else []
    return NotedRows({TRAIN: rows}, notes, split_by="source")


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
