"""Completion of the command line in the shell: Hydra's, told of commands and of options in folders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from io import StringIO

from hydra.errors import HydraException

from vertebra.config.options import SUITE, find_options
from vertebra.config.session import PRIMARY, hydra_session
from vertebra.host.manager import Host, create_host

FLAGS = ("--multirun", "--cfg", "--package", "--resolve", "--info", "--help")
_COMMAND = re.compile(r"\s*\S+\s+(\S+)\s+(.*)", re.DOTALL)


def complete(argv: Sequence[str]) -> int:
    """Answer `-sc install=SHELL`, `-sc uninstall=SHELL` and the shell's own `-sc query=SHELL` (bash, zsh, fish)."""
    request = [argument for argument in argv if "=" in argument]
    host = create_host()
    if any(argument.startswith("query=") for argument in request):
        print("\n".join(_candidates(os.environ.get("COMP_LINE", ""), request, host)))
    else:
        print(_hydra(request, host))
    return 0


def _candidates(line: str, request: list[str], host: Host) -> Iterable[str]:
    """Return what the last word of the line may become; nothing where the shell's own files are the better guess."""
    typed = _COMMAND.match(line)
    if typed is None:
        return host.names("command")
    command, rest = typed.groups()
    if command != "train":
        return []
    words = rest.split()
    word = words.pop() if words and not rest.endswith(" ") else ""
    options = _options(words, host)
    group, equals, _ = word.partition("=")
    if equals and group in options:
        return [f"{group}={name}" for name in sorted(options[group]) if f"{group}={name}".startswith(word)]
    if word.startswith("-"):
        return [flag for flag in FLAGS if flag.startswith(word)]
    settings = [word for word in words if not word.startswith("-")]
    os.environ["COMP_LINE"] = " ".join(["vertebra", *settings, word])
    folders = {f"{group}/": f"{group}=" for group in options}
    return [folders.get(candidate, candidate) for candidate in _hydra(request, host).split()]


def _options(words: list[str], host: Host) -> dict[str, Iterable[str]]:
    """Return the options of each group, the data of the chosen task alone."""
    options: dict[str, Iterable[str]] = {**find_options(host), "task": host.names("task")}
    options.pop(SUITE, None)
    tasks = [word.removeprefix("task=") for word in words if word.startswith("task=")]
    if tasks:
        options["data"] = [name for name in options["data"] if name.startswith(f"{tasks[-1]}/")]
    return options


def _hydra(request: list[str], host: Host) -> str:
    """Return what Hydra prints for the request; nothing where it cannot read what was typed so far."""
    printed = StringIO()
    try:
        with hydra_session(host) as hydra, redirect_stdout(printed):
            hydra.shell_completion(PRIMARY, request)
    except HydraException:
        return ""
    return printed.getvalue()
