"""The code in the documentation: fenced blocks, and what the word behind the language says of how they are tested.

    ```bash                     run by the fast tests
    ```bash slow                run by the slow tests
    ```bash slow with optuna    run by the slow tests where that library is installed, one of an extra
    ```bash needs the Hub       not run, for the reason that follows `needs`; its commands are checked all the same
    ```toml file: pyproject.toml    written to that file before what stands below it is run

The blocks of a page are run in their order, in one folder that holds what `doc_reader.py` puts there. Each starts in
that folder by itself: a shell's variables and Python's names do not go from one block to the next.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
LANGUAGES = ("bash", "python")
"""The languages that are run; a block of any other one is only shown, or written to a file."""

_FENCE = re.compile(r"^```(?!`)(\w*)[ ]?([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_OPERATORS = {"|", "&&", "||", ";", "&", ">", ">>", "<"}


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, its mark and its text."""

    page: str
    line: int
    language: str
    mark: str
    source: str

    @property
    def place(self) -> str:
        """The page and the line, for messages."""
        return f"{self.page}:{self.line}"

    @property
    def slow(self) -> bool:
        """Whether only the slow tests run it."""
        return self.mark == "slow" or self.extra is not None

    @property
    def extra(self) -> str | None:
        """The library of an extra that it needs."""
        return self.mark.removeprefix("slow with ") if self.mark.startswith("slow with ") else None

    @property
    def needs(self) -> str | None:
        """What it needs and tests do not have; None where it is run."""
        return self.mark.removeprefix("needs ") if self.mark.startswith("needs ") else None

    @property
    def file(self) -> str | None:
        """The file whose content it is."""
        return self.mark.removeprefix("file: ") if self.mark.startswith("file: ") else None

    @property
    def is_run(self) -> bool:
        """Whether some test runs it."""
        return self.language in LANGUAGES and self.needs is None and self.file is None


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2].strip(), found[3])
        for found in _FENCE.finditer(text)
    ]


BLOCKS = [block for page in NAMES for block in blocks_of(page)]


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the words of each simple command of a shell block; redirections are not among them."""
    for line in block.source.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in _OPERATORS:
                words.append(word)
            elif words:
                yield words
                words = []
