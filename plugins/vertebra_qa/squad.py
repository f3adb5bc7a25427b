"""SQuAD's JSON, 1.1 and 2.0: one row for each question."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vertebra.config.schema import DataConfig
from vertebra.data.files import text_lines
from vertebra.data.formats import PlacedRow, parse_json
from vertebra.data.splits import find_files
from vertebra.errors import DataError

Row = dict[str, Any]


def read(data: DataConfig) -> dict[str, list[Row]]:
    """Return the questions of each split, in the files' order; files may be compressed."""
    rows = {
        split: [row for file in files for row in questions(file, data)] for split, files in find_files(data).items()
    }
    for split, some in rows.items():
        if not some:
            raise DataError(f"The {split} split of '{data.path}' has no questions.")
    return rows


def questions(path: Path, data: DataConfig) -> Iterator[Row]:
    """Yield {"id", "question", "context", "answers"} for each question of a file.

    A question that is marked as impossible has no answers, whatever is listed as plausible. Raises `DataError` for what
    is not JSON, or not of SQuAD's form.
    """
    document = parse_json(path, 1, "".join(text_lines(path, data.encoding)), "A file of SQuAD is one object.")
    for number, article in enumerate(_list(document, "data", f"'{path}'"), start=1):
        where = f"'{path}': article {number}"
        for place, paragraph in enumerate(_list(article, "paragraphs", where), start=1):
            here = f"{where}, paragraph {place}"
            for one in _list(paragraph, "qas", here):
                yield PlacedRow(_question(one, paragraph, here), f"{path.name}, article {number}, paragraph {place}")


def _question(one: Any, paragraph: Row, where: str) -> Row:
    if not isinstance(one, dict) or "question" not in one or "context" not in paragraph:
        raise DataError(f"{where}: a question needs 'question', and its paragraph 'context'.")
    row = {"question": one["question"], "context": paragraph["context"]}
    if "answers" in one:
        row["answers"] = [] if one.get("is_impossible") else one["answers"]
    return row | ({"id": one["id"]} if "id" in one else {})


def _list(value: Any, name: str, where: str) -> list[Any]:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise DataError(f"{where} has no list '{name}': it is not of SQuAD's form, data → paragraphs → qas.")
    return found
