"""One side of a measurement in a process of its own: `python -m vertebra_speed.worker`.

So the allocator's settings, threads and memory of one side are not those of the other. The parent writes one JSON request
a line to standard input and reads one JSON reply a line; it sends one at a time and only to one process, so the sides
take turns. What the sides print goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from contextlib import ExitStack, suppress
from typing import Any

from vertebra.errors import RunError, VertebraError


class Worker:
    """A process that holds one object, made there by `target` ("package.module:attribute") from `arguments`.

    `call` runs one of its methods. What the target returns is in `made` if it is a dictionary: a function may do all the
    work at once. Raises `RunError` where the process fails or is killed.
    """

    def __init__(self, target: str, arguments: dict[str, Any], threads: int) -> None:
        self.target = target
        self._stack = ExitStack()
        log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  (closed by `close`)
        self._log = self._stack.enter_context(log)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vertebra_speed.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **_environment(threads)},
        )
        self._send({"target": target, "arguments": arguments})
        self._waiting = True

    @property
    def made(self) -> dict[str, Any]:
        """What making the object gave; waits for it, so that several processes can start together."""
        if self._waiting:
            self._waiting = False
            self._made = self._receive()
        return self._made

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Run a method and return the dictionary that it returns."""
        assert self.made is not None
        self._send({"method": method, "arguments": arguments})
        return self._receive()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        with self._stack:
            self._process.communicate()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the reply, which is missing, says why
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RunError(
                f"speed: the process of {self.target} ended ({self._reason()}). Try a smaller --shape or --batch."
            )
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            said = reply["error"] if reply["mendable"] else f"{self.target} failed: {reply['error']}."
            raise RunError(f"speed: {said}") from RuntimeError(reply["traceback"])
        return reply

    def _reason(self) -> str:
        code = self._process.wait()
        self._log.seek(0)
        said = self._log.read().strip().splitlines()
        return (
            f"by signal {-code}; it was killed, perhaps for memory"
            if code < 0
            else said[-1]
            if said
            else f"code {code}"
        )


def run_once(target: str, arguments: dict[str, Any], threads: int) -> dict[str, Any]:
    """Run a function in a process of its own and return the dictionary that it returns."""
    with Worker(target, arguments, threads) as worker:
        return worker.made


def _environment(threads: int) -> dict[str, str]:
    """Return what must stand in the environment before torch is imported."""
    here = os.pathsep.join(path for path in sys.path if path)
    return {
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": here,
    }


def main() -> None:
    """Serve the parent until it closes the pipe."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever is printed here is no reply
    made: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "target" in request:
                module, _, attribute = request["target"].partition(":")
                made = getattr(importlib.import_module(module), attribute)(**request["arguments"])
                reply = made if isinstance(made, dict) else {}
            else:
                reply = getattr(made, request["method"])(**request["arguments"])
        except Exception as error:
            mendable = isinstance(error, VertebraError)
            message = str(error) if mendable else " ".join(f"{type(error).__name__}: {error}".split())
            reply = {"error": message, "mendable": mendable, "traceback": traceback.format_exc()}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
