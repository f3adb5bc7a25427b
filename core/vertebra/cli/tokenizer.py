"""`vertebra tokenizer train`: learn a byte-level BPE tokenizer from text files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from vertebra.cli.parser import Parser
from vertebra.config.schema import DataConfig
from vertebra.data.files import require_file, text_lines
from vertebra.data.formats import format_of, json_rows
from vertebra.errors import DataError
from vertebra.tokenizer import train_tokenizer


def main(argv: list[str]) -> int:
    """Run the command; `argv` is what follows `vertebra tokenizer`."""
    arguments = parser().parse_args(argv)
    for path in arguments.input:
        require_file(path)
    texts = (text for path in arguments.input for text in read_texts(path, arguments.column, arguments.bytes))
    tokenizer = train_tokenizer(
        texts, arguments.vocab_size, arguments.output, context=arguments.context, progress=sys.stderr.isatty()
    )
    print(f"{len(tokenizer)} entries in {arguments.output}")
    return 0


def parser() -> Parser:
    """Return the parser of the command line."""
    top = Parser(prog="vertebra tokenizer", description="Make tokenizers.")
    train = top.add_subparsers(required=True, metavar="train").add_parser(
        "train", help="learn a byte-level BPE tokenizer from text files"
    )
    train.add_argument("--input", type=Path, nargs="+", required=True, help="text or JSON lines, also .gz or .xz")
    train.add_argument("--output", type=Path, required=True, help="the folder to save the tokenizer in")
    train.add_argument("--vocab-size", type=int, default=16384, help="entries of the vocabulary (default: %(default)s)")
    train.add_argument("--context", type=int, default=1024, help="longest sequence of the model (default: %(default)s)")
    train.add_argument("--column", default="text", help="where JSON lines hold the text (default: %(default)s)")
    train.add_argument("--bytes", type=int, help="read about this much of each file, to balance them (default: all)")
    return top


def read_texts(path: Path, column: str = "text", limit: int | None = None) -> Iterator[str]:
    """Yield the texts of a file of plain lines, or of JSON by `column`, until `limit` bytes (in UTF-8) are passed."""
    data = DataConfig()
    is_json = format_of(path, data) == "json"
    texts = _column(path, data, column) if is_json else text_lines(path, data.encoding)
    seen = 0
    for text in texts:
        if limit is not None and seen >= limit:
            return
        seen += len(text.encode())
        yield text


def _column(path: Path, data: DataConfig, column: str) -> Iterator[str]:
    for number, row in enumerate(json_rows(path, data), 1):
        text = row.get(column)
        if not isinstance(text, str):
            raise DataError(
                f"{path}: row {number} has no text in '{column}'; name the right one of {', '.join(row)} by --column."
            )
        yield text
