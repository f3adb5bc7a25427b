"""File formats: the rows of one file, one after the other, and which format a file has."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

from vertebra.config.schema import DataConfig
from vertebra.data.files import COMPRESSED, require_file, text_lines
from vertebra.errors import DataError

Row = dict[str, Any]
Stream = Callable[[Path, DataConfig], Iterator[Row]]

SUFFIXES = {
    ".conll": "columns",
    ".bmes": "columns",
    ".bioes": "columns",
    ".bio": "columns",
    ".iob": "columns",
    ".iob2": "columns",
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".txt": None,  # by its content
}


class PlacedRow(dict[str, Any]):
    """A row that knows where it was read, such as `train.csv:6`, for what is said of it."""

    __slots__ = ("place",)

    def __init__(self, values: Mapping[str, Any], place: str) -> None:
        super().__init__(values)
        self.place = place


def place_of(row: Row) -> str:
    """Return where a row was read, or "" where its reader does not say."""
    return getattr(row, "place", "")


def where_in(path: Path, number: int, row: Row) -> str:
    """Return where a row of a file stands, as `data/train.csv:6`; by its `number`, from 1, where its reader says no more."""
    place = place_of(row)
    return str(path.parent / place) if place else f"{path} row {number}"


_BLANKS = re.compile("[ \t]+")  # no other white space: an ideographic space is a token of its own
_DOCUMENT = "-DOCSTART-"
_HALF_A_PAIR = re.compile(
    r"\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f])|(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f][0-9a-f]{2}", re.IGNORECASE
)
LINES_OR_LIST = "A file holds one object a line, or a list of objects."


def has_no_names(row: Row) -> bool:
    """Whether a row comes from a file without column names: its keys are then "0", "1", …"""
    return bool(row) and list(row) == [str(number) for number in range(len(row))]


# --- one stream for each format


def columns_rows(path: Path, data: DataConfig) -> Iterator[Row]:
    """Yield sentences of a file with one token a line: each column's values as a list, under "0", "1", …

    Blank lines end a sentence, and so do `-DOCSTART-` lines. There are no comments: `#` is a token.
    """
    sentence: list[list[str]] = []
    width = began = 0
    split: Callable[[str], list[str]] | None = None
    for number, line in enumerate(text_lines(path, data.encoding), start=1):
        line = line.rstrip("\r\n")
        if not line.strip(" \t") or line.startswith(_DOCUMENT):
            if sentence:
                yield PlacedRow(_sentence(sentence), f"{path.name}:{began}")
            sentence = []
            continue
        if split is None:
            split = _splitter(data.separator, line)
            width = len(split(line))
        fields = split(line)
        if len(fields) != width:
            raise DataError(_uneven(path, number, fields, width))
        began = began if sentence else number
        sentence.append(fields)
    if sentence:
        yield PlacedRow(_sentence(sentence), f"{path.name}:{began}")


def csv_rows(path: Path, data: DataConfig) -> Iterator[Row]:
    """Yield the rows of a table whose fields may stand in double quotes; see `_table` for its header."""
    csv.field_size_limit(2**31 - 1)  # the default refuses a long text
    lines = text_lines(path, data.encoding, newline="")
    first = next(lines, "")
    separator = data.separator or _csv_separator(first, data)
    reader = csv.reader(chain([first], lines), delimiter=_one_character(separator), strict=True)

    def records() -> Iterator[tuple[int, list[str]]]:
        while True:
            number = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(
                    f"{path}:{number}: the record that begins here is not CSV: {error}. (Where quotes are part of the "
                    "text, use data.format=tsv with data.separator.)"
                ) from error
            if fields:
                yield number, fields

    yield from _table(path, records(), data)


def tsv_rows(path: Path, data: DataConfig) -> Iterator[Row]:
    """Yield the rows of a table with one row a line and no quoting; see `_table` for its header."""
    separator = data.separator or "\t"
    lines = (line.rstrip("\r\n") for line in text_lines(path, data.encoding))
    yield from _table(path, ((number, line.split(separator)) for number, line in enumerate(lines, 1) if line), data)


def json_rows(path: Path, data: DataConfig) -> Iterator[Row]:
    """Yield the objects of a file: one a line (streamed), or a list of them (held in memory)."""
    lines = text_lines(path, data.encoding)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if line.lstrip().startswith("["):
            yield from _json_list(path, number, chain([line], lines))
            return
        yield PlacedRow(_json_object(parse_json(path, number, line), f"{path}:{number}"), f"{path.name}:{number}")


def parquet_rows(path: Path, data: DataConfig) -> Iterator[Row]:
    """Yield the rows of a Parquet file; class labels that the file names become those names."""
    import pyarrow
    import pyarrow.parquet

    from vertebra.data.hub import label_names, name_labels

    require_file(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = label_names(file.schema_arrow)
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    yield name_labels(row, names)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"Cannot read '{path}' as Parquet: {str(error).splitlines()[0]}") from error


def text_rows(path: Path, data: DataConfig) -> Iterator[Row]:
    """Yield the lines of a file as {"text": line}; blank lines are left out."""
    for line in text_lines(path, data.encoding):
        if line.strip():
            yield {"text": line.rstrip("\r\n")}


STREAMS: dict[str, Stream] = {
    "columns": columns_rows,
    "csv": csv_rows,
    "tsv": tsv_rows,
    "json": json_rows,
    "parquet": parquet_rows,
    "text": text_rows,
}


# --- which format a file has


def bare_name(path: Path) -> str:
    """Return a file's name without the suffixes of its compression and format: `train` for `train.jsonl.gz`."""
    return _without_format(_without_compression(path.name))


def format_of(path: Path, data: DataConfig) -> str:
    """Return the format of a file by its suffix or, where that says nothing, by its content; `text` if nothing else."""
    suffix = Path(_without_compression(path.name)).suffix.lower()
    return SUFFIXES.get(suffix) or _format_by_content(path, data)


def is_plain_text(path: Path) -> bool:
    """Whether a file's suffix is `.txt`, which says nothing of a form."""
    return Path(_without_compression(path.name)).suffix.lower() == ".txt"


def _format_by_content(path: Path, data: DataConfig) -> str:
    require_file(path)
    with path.open("rb") as file:
        if file.read(4) == b"PAR1":
            return "parquet"
    lines = [line.rstrip("\r\n") for line in islice(text_lines(path, data.encoding), 1000)]
    filled = [line for line in lines if line.strip(" \t")]
    if not filled:
        return "text"
    if filled[0].lstrip().startswith(("{", "[{")) or filled[0].strip() == "[":
        return "json"
    if _has_sentences(lines, data):
        return "columns"
    return "tsv" if _alike(filled, lambda line: line.split(data.separator or "\t")) else "text"


def _has_sentences(lines: Sequence[str], data: DataConfig) -> bool:
    """Whether lines are tokens with their tags, a blank line between sentences; texts with blank lines between them are not."""
    is_blank = [not line.strip(" \t") for line in lines]
    is_mark = [line.startswith(_DOCUMENT) for line in lines]
    tokens = [line for line, blank, mark in zip(lines, is_blank, is_mark, strict=True) if not blank and not mark]
    of_several_lines = any(not one and not following for one, following in pairwise(is_blank))
    like_sentences = any(is_blank) and (of_several_lines or any(is_mark))
    return like_sentences and bool(tokens) and _alike(tokens, _splitter(data.separator, tokens[0]))


def _alike(lines: Sequence[str], split: Callable[[str], list[str]]) -> bool:
    """Whether nearly all lines have the same number of columns, at least two; a bad line is for the reader to name."""
    (width, count), *_ = Counter(len(split(line)) for line in lines).most_common(1)
    return width >= 2 and count >= 0.9 * len(lines)


def _without_compression(name: str) -> str:
    return name[:-3] if name.lower().endswith(COMPRESSED) else name


def _without_format(name: str) -> str:
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in SUFFIXES else name


# --- the parts


def _sentence(fields: list[list[str]]) -> Row:
    return {str(number): list(column) for number, column in enumerate(zip(*fields, strict=True))}


def _splitter(separator: str | None, line: str) -> Callable[[str], list[str]]:
    if separator is None and "\t" not in line:
        return lambda one: _BLANKS.split(one.strip(" \t"))
    return lambda one: one.split(separator or "\t")


def _table(path: Path, records: Iterator[tuple[int, list[str]]], data: DataConfig) -> Iterator[Row]:
    """Yield rows of records; the first record names the columns unless `data.columns` has numbers."""
    names = None if numbered(data) else _header(path, records)
    for number, fields in records:
        names = names or [str(column) for column in range(len(fields))]
        if len(fields) != len(names):
            raise DataError(_uneven(path, number, fields, len(names)))
        yield PlacedRow(dict(zip(names, fields, strict=True)), f"{path.name}:{number}")


def _uneven(path: Path, number: int, fields: list[str], width: int) -> str:
    shown = _short(" ".join(fields))
    return f"{path}:{number}: {len(fields)} columns where the lines before have {width}: {shown}. Mend that line."


def numbered(data: DataConfig) -> bool:
    """Whether the configuration gives columns by number, for a file without column names."""
    return any(isinstance(column, int) for column in data.columns.values())


def _header(path: Path, records: Iterator[tuple[int, list[str]]]) -> list[str]:
    number, fields = next(records, (1, []))
    names = [field.strip() for field in fields]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"{path}:{number}: the header names column {twice[0]!r} twice. For a file without a header, give "
            "the columns by number, as in data.columns.text=0."
        )
    return names


def _csv_separator(line: str, data: DataConfig) -> str:
    """Return the separator of a header: the most frequent of those in use; a comma where there is no header."""
    return "," if numbered(data) else max(",;\t|", key=line.count)


def _one_character(separator: str) -> str:
    if len(separator) != 1 or separator in '"\r\n':
        raise DataError(f"data.separator={separator!r}: CSV takes one character, no quote; data.format=tsv takes any.")
    return separator


def _json_list(path: Path, number: int, lines: Iterator[str]) -> Iterator[Row]:
    objects = parse_json(path, number, "".join(lines))
    for place, value in enumerate(objects, start=1):
        yield PlacedRow(_json_object(value, f"{path}: item {place}"), f"{path.name}, item {place}")


def _json_object(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(f'{where}: a row must be a JSON object such as {{"text": …}}, not {_short(value)}')
    return value


def parse_json(path: Path, number: int, text: str, form: str = LINES_OR_LIST) -> Any:
    """Return the value that a text stands for, which begins in line `number` of a file.

    Raises `DataError` with the line for what is not JSON, with `form` as a reminder, and for texts that are none.
    """
    try:
        value = json.loads(text.rstrip())
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{number + error.lineno - 1}: not JSON: {error.msg} (column {error.colno}). {form}"
        ) from error
    except UnicodeEncodeError as error:
        half = _HALF_A_PAIR.search(text)
        line = number + (text.count("\n", 0, half.start()) if half else 0)
        raise DataError(f"{path}:{line}: half of a surrogate pair (\\ud8…) in a text: {error.reason}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{number}: not JSON that can be read: {error}") from error
    return value


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}…"
