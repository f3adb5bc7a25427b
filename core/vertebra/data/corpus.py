"""Corpora: texts too many for rows in memory, made into tokens once and read from the disk.

A corpus is one file of token numbers. Each document begins with the token that ends texts, and one more stands behind the
last document, so that every token has a next one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vertebra.config.schema import DataConfig
from vertebra.data.encode import _tokenizer_fingerprint
from vertebra.data.entries import Entries, cache_root
from vertebra.data.files import listed, require_file, text_lines
from vertebra.data.formats import STREAMS, Row, format_of
from vertebra.data.load import check_given_splits, fingerprint
from vertebra.data.splits import find_files, on_hub
from vertebra.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vertebra.host.manager import Host

logger = logging.getLogger(__name__)

FORMAT = 1
_TOKENS, _ABOUT = "tokens.bin", "about.json"
_BATCH = 4 << 20
"""Characters that are made into tokens at once, by all cores."""
_PART = 1 << 20
"""Characters of a text file that are one part of its document."""

READS = frozenset(
    {"path", "config_name", "revision", "format", "splits", "valid_fraction"}
    | {"limit", "bad_rows", "encoding", "separator", "cache", "options"}
)
"""The settings of `data` that a corpus is read by; the others are about rows."""

UNDECODED = re.compile("[\udc80-\udcff]")
"""What Python makes of bytes that are no text."""

Tokens = NDArray[np.uint16] | NDArray[np.uint32]
Documents = Literal["file", "paragraph", "line"]


@dataclass(frozen=True)
class Corpus:
    """The tokens of a split's documents."""

    tokens: Tokens
    """(n + 1,) memory-mapped."""
    n_documents: int
    n_bytes: int
    """Of all texts, in UTF-8."""
    fingerprint: str
    notes: tuple[str, ...] = ()
    """What was left out."""

    def __len__(self) -> int:
        return len(self.tokens) - 1


@dataclass(frozen=True)
class Texts:
    """Where a split's texts are: in files that are streamed, or in rows that a reader made."""

    files: tuple[Path, ...] = ()
    rows: Sequence[Row] = ()

    def __str__(self) -> str:
        return listed([file.name for file in self.files]) if self.files else f"{len(self.rows)} rows"


def find_texts(data: DataConfig, host: Host) -> dict[str, Texts]:
    """Return the texts of each split: files as they are, and what other readers bring as rows."""
    hub = data.format == "hub" or (data.format == "auto" and data.path is not None and on_hub(data.path))
    if not hub and data.format in ("auto", *STREAMS):
        return {split: Texts(tuple(files)) for split, files in find_files(data).items()}
    reader = host.get("reader", "hub" if hub else data.format)
    check_given_splits(data, reader)
    rows = reader.load()(data)
    return {split: Texts(rows=some) for split, some in rows.items()}


class CorpusReader:
    """Makes files into corpora, and keeps these in the cache."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        data: DataConfig,
        *,
        column: str = "text",
        documents: Documents = "file",
        root: Path | None = None,
    ) -> None:
        """`column` holds the text in files with columns; `documents` says what one is in files of plain text.

        Raises `DataError` for a tokenizer without a token that ends texts.
        """
        if tokenizer.eos_token_id is None:
            raise DataError("The backbone's tokenizer has no token that ends texts, which has to part documents.")
        self.tokenizer, self.data, self.column, self.documents = tokenizer, data, column, documents
        self._dtype = np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32
        self._entries = Entries((root or cache_root()) / "corpora", FORMAT, (_TOKENS, _ABOUT))

    def read(self, texts: Texts, title: str = "tokenizing") -> Corpus:
        """Return the tokens of all documents, in their order.

        Raises `DataError` where there is no text, and for what cannot be read; with `data.bad_rows=skip` that is left out
        and counted.
        """
        key = self._key(texts)
        try:
            return self._open(key)
        except FileNotFoundError:
            pass
        except Exception as error:  # whatever is wrong with the entry, it can be made anew
            logger.warning("A corpus is tokenized anew: '%s' cannot be used: %s", self._entries.root / key, error)
        try:
            self._entries.add(key, lambda folder: self._write(folder, texts, title))
        except OSError as error:
            raise DataError(
                f"Cannot keep the tokens of {texts} in '{self._entries.root}': {error}. Set VERTEBRA_CACHE=FOLDER."
            ) from error
        return self._open(key)

    def _open(self, key: str) -> Corpus:
        folder = self._entries.find(key)
        about = json.loads((folder / _ABOUT).read_bytes())
        tokens = np.memmap(folder / _TOKENS, dtype=self._dtype, mode="r")
        return Corpus(tokens.view(np.ndarray), about["documents"], about["bytes"], key, tuple(about["notes"]))

    def _write(self, folder: Path, texts: Texts, title: str) -> None:
        reading = _Reading(self.data, self.column, self.documents)
        parts = chain(reading.of_rows(texts.rows), *(reading.of_file(file) for file in texts.files))
        with (folder / _TOKENS).open("wb") as out, _progress(title) as advance:
            for ids in self._encoded(parts):
                out.write(ids.astype(self._dtype).tobytes())
                advance(reading.n_bytes)
            if not reading.n_bytes:
                raise DataError(f"There is no text in {texts}.")
            out.write(np.asarray([self.tokenizer.eos_token_id], dtype=self._dtype).tobytes())
        about = {"documents": reading.n_documents, "bytes": reading.n_bytes, "notes": reading.notes()}
        (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")

    def _encoded(self, parts: Iterable[Part]) -> Iterator[NDArray[np.int64]]:
        """Yield the tokens of parts of documents, a batch of parts at a time."""
        backend = self.tokenizer.backend_tokenizer
        before = backend.encode_special_tokens
        backend.encode_special_tokens = True  # a document that spells out such a token means its characters
        backend.no_truncation()
        backend.no_padding()
        try:
            for batch in _batches(parts):
                encodings = backend.encode_batch_fast([part.text for part in batch], add_special_tokens=False)
                for part, encoding in zip(batch, encodings, strict=True):
                    begin = [self.tokenizer.eos_token_id] if part.begins else []
                    yield np.asarray([*begin, *encoding.ids], dtype=np.int64)
        finally:
            backend.encode_special_tokens = before

    def _key(self, texts: Texts) -> str:
        digest = hashlib.blake2b(digest_size=16)
        settings = [
            self.column,
            self.documents,
            self.data.format,
            self.data.encoding,
            self.data.separator,
            self.data.bad_rows,
        ]
        digest.update(json.dumps([FORMAT, _tokenizer_fingerprint(self.tokenizer), settings]).encode())
        digest.update(fingerprint(texts.rows).encode())
        for file in texts.files:
            require_file(file)
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return digest.hexdigest()


# --- from files to parts of documents


@dataclass(frozen=True)
class Part:
    """A document, or a part of a long one."""

    text: str
    begins: bool
    """Whether a document begins here."""


class RefusedError(DataError):
    """A place of a corpus that cannot be used, and that was not to be left out."""


class _Reading:
    """Reads files, and counts what is read and what is left out."""

    def __init__(self, data: DataConfig, column: str, documents: Documents) -> None:
        self.data, self.column, self.documents = data, column, documents
        self.n_documents = self.n_bytes = 0
        self.skipped: list[str] = []

    def of_rows(self, rows: Iterable[Row]) -> Iterator[Part]:
        """Yield the documents of rows."""
        yield from self._counted(self._texts(rows, "the data's"))

    def of_file(self, file: Path) -> Iterator[Part]:
        """Yield the parts of a file's documents."""
        kind = self.data.format if self.data.format in STREAMS else format_of(file, self.data)
        if kind == "text":
            parts = self._plain(file)
        else:
            rows = self._json_lines(file) if kind == "json" else STREAMS[kind](file, self.data)
            parts = self._texts(rows, f"'{file}'")
        try:
            yield from self._counted(parts)
        except RefusedError:
            raise
        except DataError as error:
            # What cannot be read ends a file: nobody knows where its next row would begin.
            self._leave_out(error)

    def notes(self) -> list[str]:
        """Say what was left out."""
        if not self.skipped:
            return []
        return [f"{len(self.skipped)} places of the corpus skipped (data.bad_rows=skip), the first: {self.skipped[0]}"]

    def _leave_out(self, error: DataError) -> None:
        if self.data.bad_rows != "skip":
            raise RefusedError(f"{error} (data.bad_rows=skip leaves it out, and counts.)") from error
        self.skipped.append(str(error))

    def _counted(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Yield parts that have text, and count; a document without text is none."""
        begins = False
        for part in parts:
            begins |= part.begins
            if part.text and not part.text.isspace():
                self.n_documents += begins
                self.n_bytes += len(part.text.encode())
                yield Part(part.text, begins)
                begins = False

    def _texts(self, rows: Iterable[Row], source: str) -> Iterator[Part]:
        for number, row in enumerate(rows, start=1):
            text = row.get(self.column)
            if isinstance(text, str):
                yield Part(text, begins=True)
                continue
            there = f"it has {listed(list(row))}" if self.column not in row else f"it holds {type(text).__name__}"
            self._leave_out(DataError(f"{source} row {number} has no text in '{self.column}': {there}."))

    def _json_lines(self, file: Path) -> Iterator[dict[str, Any]]:
        """Yield the rows of a file; a line that is no JSON is left out alone."""
        stream = STREAMS["json"]
        if self.data.bad_rows == "error":
            yield from stream(file, self.data)
            return
        for number, line in self._lines(file):
            if line.strip():
                try:
                    yield _json_object(line)
                except ValueError as error:
                    self._leave_out(DataError(f"'{file}' line {number}: {error}"))

    def _lines(self, file: Path) -> Iterator[tuple[int, str]]:
        """Yield the numbered lines of a file; one that is not text in its encoding may be left out alone."""
        errors = "strict" if self.data.bad_rows == "error" else "surrogateescape"
        for number, line in enumerate(text_lines(file, self.data.encoding, errors=errors), start=1):
            if errors != "strict" and UNDECODED.search(line):
                self._leave_out(DataError(f"'{file}' line {number}: not {self.data.encoding} text"))
            else:
                yield number, line

    def _plain(self, file: Path) -> Iterator[Part]:
        """Yield a text file's documents, in parts that end at the ends of lines."""
        lines: list[str] = []
        size, begins = 0, True
        for _, line in self._lines(file):
            ends = self.documents == "line" or (self.documents == "paragraph" and not line.strip())
            lines.append(line)
            size += len(line)
            if ends or size >= _PART:
                yield Part("".join(lines), begins)
                lines, size, begins = [], 0, ends
        yield Part("".join(lines), begins)


def _json_object(line: str) -> dict[str, Any]:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def _batches(parts: Iterable[Part]) -> Iterator[list[Part]]:
    batch: list[Part] = []
    size = 0
    for part in parts:
        batch.append(part)
        size += len(part.text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int], None]]:
    """Show how many bytes of text were read, where the error output is a terminal."""
    if not sys.stderr.isatty():
        yield lambda n_bytes: None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn(title), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(title, total=None)
        yield lambda n_bytes: progress.update(bar, completed=n_bytes)
