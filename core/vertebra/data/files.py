"""Text files line by line: compression, encoding, and errors that name file and line."""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from vertebra.errors import DataError, RunError
from vertebra.names import did_you_mean

COMPRESSED = (".gz", ".xz")

_OPENERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.GzipFile, b"\xfd7zXZ\x00": lzma.LZMAFile}
_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


def require_file(path: Path) -> None:
    """Raise `DataError` where there is no file, naming the nearest name beside it."""
    if path.is_dir():
        raise DataError(f"'{path}' is a folder; a file is needed here.")
    if not path.exists():
        raise DataError(missing(path))


def require_place(path: Path, *, folder: bool = False) -> None:
    """Raise `RunError` where no file, or no `folder`, can be written: something else is there, or nothing to hold it."""
    if folder and path.exists() and not path.is_dir():
        raise RunError(f"Cannot write '{path}': it is a file, and a folder is needed.")
    if not folder and path.is_dir():
        raise RunError(f"Cannot write '{path}': it is a folder. Give the name of a file.")
    above = path.parent
    while folder and not above.exists():
        above = above.parent
    if not above.is_dir():
        what = "is a file" if above.exists() else "does not exist"
        raise RunError(f"Cannot write '{path}': '{above}' {what}. Choose another place.")


def missing(path: Path) -> str:
    """Return the message for a file or folder that does not exist: what is near, and what is there."""
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    inside = f"'{parent.resolve()}' holds: {listed(names)}."
    return f"There is no file or folder '{path}'.{did_you_mean(path.name, names)} {inside}"


def listed(names: list[str], most: int = 12) -> str:
    """Return names as a list for a message, the first ones where there are many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else "nothing"


def text_lines(path: Path, encoding: str, newline: str = "\n", errors: str = "strict") -> Iterator[str]:
    """Yield the lines of a text file with their ends; gzip and xz are known by their first bytes.

    `newline` and `errors` are those of `open`: "\\n" splits at line feeds alone, "" also at lone carriage returns. A
    byte-order mark of UTF-8 is left out. Raises `DataError` with file and line for what is not text in that encoding, or
    is cut off.
    """
    require_file(path)
    number = 0
    try:
        for number, line in enumerate(_decoded_lines(path, encoding, newline, errors), start=1):
            if "\0" in line:
                raise DataError(f"{path}:{number}: a NUL character: is this a binary file, or in another encoding?")
            yield line
    except _BROKEN as error:
        raise DataError(
            f"{path}: the compressed file is broken or cut off after line {number}; get it again."
        ) from error
    except LookupError as error:
        raise DataError(f"data.encoding: there is no text encoding '{encoding}'.") from error
    except OSError as error:
        raise DataError(f"Cannot read '{path}': {error.strerror or error}.") from error


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading bytes, decompressed."""
    with path.open("rb") as file:
        start = file.read(6)
    for magic, opener in _OPENERS.items():
        if start.startswith(magic):
            return cast(BinaryIO, opener(path))
    return path.open("rb")


def _decoded_lines(path: Path, encoding: str, newline: str, errors: str) -> Iterator[str]:
    try:
        with (
            open_binary(path) as binary,
            io.TextIOWrapper(binary, encoding=_codec(encoding), newline=newline, errors=errors) as text,
        ):
            yield from text
    except UnicodeError as error:
        raise DataError(_undecodable(path, encoding, error)) from error


def _codec(encoding: str) -> str:
    name = codecs.lookup(encoding).name
    return "utf-8-sig" if name == "utf-8" else name


def _undecodable(path: Path, encoding: str, error: UnicodeError) -> str:
    """Read once more, up to the bytes that cannot be decoded, to say in which line they are."""
    decoder = codecs.getincrementaldecoder(_codec(encoding))()
    line = 1
    with open_binary(path) as file:
        while True:
            chunk = file.read(1 << 20)
            try:
                line += decoder.decode(chunk, final=not chunk).count("\n")
            except UnicodeDecodeError as found:
                line += found.object[: found.start].decode(encoding, "replace").count("\n")
                return (
                    f"{path}:{line}: not {encoding} text (byte 0x{found.object[found.start]:02x}). If it is text in "
                    "another encoding, set data.encoding (to predict: --encoding), such as latin-1 or gb18030."
                )
            except UnicodeError as found:
                return f"{path}:{line}: not {encoding} text ({found})."
            if not chunk:
                return f"{path}: not {encoding} text ({error})."
