"""The parser of a command's arguments, whose errors are like all others: one line, and exit code 2."""

from __future__ import annotations

import argparse
from typing import NoReturn

from vertebra.errors import VertebraError
from vertebra.names import did_you_mean

UNRECOGNIZED = "unrecognized arguments: "


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises `VertebraError` where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where all arguments are explained."""
        said = self._unknown(message.removeprefix(UNRECOGNIZED)) if message.startswith(UNRECOGNIZED) else f"{message}."
        raise VertebraError(
            f"{self.prog.removeprefix('vertebra ')}: {said} `{self.prog} --help` explains the arguments."
        )

    def _unknown(self, left_over: str) -> str:
        words = left_over.split()
        name = next((word for word in words if word.startswith("-")), words[0]).partition("=")[0]
        if not name.startswith("-"):
            return f"'{name}' is one argument too many."
        known = [option for option in self._option_string_actions if option.startswith("--")]
        return f"there is no option '{name}'.{did_you_mean(name, known)} Known: {', '.join(sorted(known))}."
