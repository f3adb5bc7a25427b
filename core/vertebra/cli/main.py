"""The entry of the command line: find the command, run it, and turn what a user can mend into one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import vertebra
from vertebra.errors import StoppedError, VertebraError
from vertebra.host.manager import Host, create_host

TRACEBACK = "VERTEBRA_TRACEBACK"
"""The environment variable that asks for the traceback of every error."""

COMPLETION = ("-sc", "--shell-completion")
USAGE = "vertebra COMMAND [ARGUMENT ...]"
HELP = """\
usage: {usage}

NLP tasks as plugins on one shared GPT backbone.

commands:
{commands}

examples:
  vertebra train task={task}
  vertebra train task={task} trainer.epochs=4 --multirun seed=1,2,3
  vertebra inspect task={task}
  vertebra predict RUN_DIR --text "Ada Lovelace was born in London."

tasks: {tasks}
`vertebra COMMAND --help` explains a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `vertebra` with these arguments (by default the process's own) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that lacks a character shows another, and the run goes on
            stream.reconfigure(errors="replace")
    try:
        code = run(arguments)
        sys.stdout.flush()
    except StoppedError as error:
        print(f"vertebra: {error}", file=sys.stderr)
        return 130
    except VertebraError as error:
        return refuse(str(error))
    except KeyboardInterrupt:
        print("vertebra: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has gone; what is still buffered must not fail at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a full disk, a file that may not be read, a name that is too long
        named = f"'{error.filename}': " if error.filename else ""
        return refuse(f"The system refuses: {named}{error.strerror or error}. {TRACEBACK}=1 shows where.")
    return code


def refuse(message: str) -> int:
    """Print what is wrong, after its traceback where that is asked for, and return the exit code."""
    if wants_traceback():
        import traceback

        traceback.print_exc()
    print(f"vertebra: {message}", file=sys.stderr)
    return 2


def run(arguments: list[str]) -> int:
    """Answer `--help`, `--version` and completion here; hand everything else to the command of that name."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_text(create_host()))
        return 0
    if arguments[0] == "--version":
        print(f"vertebra {vertebra.__version__}")
        return 0
    if arguments[0] in COMPLETION:
        arguments = ["train", *arguments]
    return run_command(arguments[0], arguments[1:])


def run_command(name: str, arguments: list[str]) -> int:
    """Run one command; 0 where it returns None."""
    if name.startswith("-"):
        raise VertebraError(f"There is no option '{name}' before the command. Usage: {USAGE}")
    if "=" in name:
        raise VertebraError(f"'{name}' is a setting and follows a command, as in: vertebra train {name}")
    host = create_host()
    if not any(argument in COMPLETION for argument in arguments):
        warn(host)
    command = host.get("command", name).load()
    return int(command(arguments) or 0)


def warn(host: Host) -> None:
    """Say on stderr what the user should know before a command runs: the host's notes, and the plugins that failed."""
    failed = [plugin.label for plugin in host.plugins if plugin.state == "failed"]
    left_out = [f"Not loaded: {', '.join(failed)}. `vertebra plugins` says why."] if failed else []
    for line in (*host.notes, *left_out):
        print(f"vertebra: {line}", file=sys.stderr)


def help_text(host: Host) -> str:
    """Return the text of `vertebra --help`."""
    commands = host.refs("command")
    width = max(len(command.name) for command in commands)
    lines = [f"  {command.name:{width}}  {command.summary}".rstrip() for command in commands]
    tasks = host.names("task")
    task = tasks[0] if tasks else "TASK"
    return HELP.format(usage=USAGE, commands="\n".join(lines), task=task, tasks=", ".join(tasks) or "none")


def wants_traceback() -> bool:
    """Whether the user asked for tracebacks."""
    return os.environ.get(TRACEBACK, "") not in ("", "0")


if __name__ == "__main__":
    sys.exit(main())
