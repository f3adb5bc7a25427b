"""The reference of the commands: what `--help` of each one prints, its subcommands' included."""

from __future__ import annotations

import os
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from io import StringIO
from unittest.mock import patch

from vertebra.cli.main import help_text
from vertebra.host.manager import Host, create_host
from vertebra.host.records import DISABLE

WIDTH = "100"


def commands() -> str:
    """Return a section for each command that comes with Vertebra."""
    strangers = [plugin.name for plugin in create_host().plugins if plugin.source not in ("core", "vertebra")]
    with patch.dict(os.environ, {"COLUMNS": WIDTH, DISABLE: ",".join(strangers)}):
        host = create_host()
        return "\n\n".join(section(title, text) for title, text in help_texts(host))


def section(title: str, text: str) -> str:
    """Return one command's help under its name."""
    return f"## {title}\n\n```text\n{text.strip()}\n```"


def help_texts(host: Host) -> Iterator[tuple[str, str]]:
    """Yield each command, as it is typed, with what its help prints."""
    yield "vertebra", help_text(host)
    for command in host.refs("command"):
        yield from help_of(host, [command.name])


def help_of(host: Host, words: list[str]) -> Iterator[tuple[str, str]]:
    """Yield a command and its subcommands."""
    parsers: list[ArgumentParser] = []

    def keep(parser: ArgumentParser, file: object = None) -> None:
        parsers.append(parser)
        print(parser.format_help())

    printed = StringIO()
    with patch.object(ArgumentParser, "print_help", keep), redirect_stdout(printed), suppress(SystemExit):
        host.get("command", words[0]).load()([*words[1:], "--help"])
    yield " ".join(["vertebra", *words]), printed.getvalue()
    for parser in parsers:
        for action in parser._actions:
            if isinstance(action, _SubParsersAction):
                for name in action.choices:
                    yield from help_of(host, [*words, name])
