"""Several processes for one run: start them, watch them, and end them together.

Each is `python -m vertebra.runs.worker` with the same resolved configuration; the environment says which one it is, as
under torchrun. The process that launches them computes nothing: it holds the lock of the run folder, passes signals
on, and says how the run ended, which a process that is killed cannot say itself.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from vertebra.config.document import to_document
from vertebra.config.schema import RunConfig
from vertebra.engine.devices import threads_of, wanted_processes
from vertebra.engine.events import RunEnd
from vertebra.engine.ranks import world_size
from vertebra.errors import RunError, StoppedError
from vertebra.runs.folder import RunFolder
from vertebra.runs.signals import SIGNALS

POLL = 0.05
"""Seconds between two looks at the processes."""
GRACE = 5.0
"""Seconds that the others have to end by themselves, and to say why, when one has ended in an error."""


@dataclass(frozen=True)
class Outcome:
    """How a process ended that did not end well; it leaves this as JSON."""

    kind: str
    """stopped, interrupted, error (one that a user can mend) or crash."""
    message: str
    traceback: str
    time: float


class WorkerTraceback(Exception):  # noqa: N818  (it is only shown, as the cause of another)
    """The traceback of another process, as a cause to be shown."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True)
class Worker:
    """One process of a run."""

    rank: int
    process: subprocess.Popen[bytes]
    outcome_file: Path
    errors_file: Path

    @property
    def failed(self) -> bool:
        """Whether it has ended, and not well."""
        return self.process.poll() not in (None, 0)

    def outcome(self) -> Outcome | None:
        """Return what it said of its end; None where it could say nothing."""
        with suppress(OSError, ValueError, TypeError):
            return Outcome(**json.loads(self.outcome_file.read_text(encoding="utf-8")))
        return None


def is_needed(config: RunConfig) -> bool:
    """Whether a run needs more processes than there are: neither torchrun nor `launch` has started any."""
    return world_size() == 1 and "RANK" not in os.environ and wanted_processes(config.gpu) > 1


def launch(config: RunConfig, run: RunFolder) -> RunEnd:
    """Do a run in as many processes as configured, in a folder that is made and locked; return its scores.

    `RunError` says what ended the run when one of them fails, `StoppedError` that all of them stopped in good order.
    None of them outlives this call, nor the process that made it.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="vertebra-") as scratch:
        workers: list[Worker] = []
        try:
            with passing_signals_on(workers) as passed:
                for worker in start(config, run, Path(scratch)):
                    workers.append(worker)
                wait(workers)
            failed = [worker for worker in workers if worker.failed]  # by themselves: the others are ended now
        finally:
            end(workers)
        if failed:
            raise reason(workers, failed, interrupted=bool(passed))
    return RunEnd(run.path, run.read_json("metrics.json"), time.perf_counter() - began)


def start(config: RunConfig, run: RunFolder, scratch: Path) -> Iterator[Worker]:
    """Start the processes and yield each; all but the main one write their errors to a file instead of the screen."""
    number = wanted_processes(config.gpu)
    job = scratch / "job.json"
    job.write_text(json.dumps({"config": to_document(config), "folder": str(run.path.resolve())}), encoding="utf-8")
    environment = {
        **os.environ,
        "WORLD_SIZE": str(number),
        "LOCAL_WORLD_SIZE": str(number),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": str(threads_of(config.gpu, number)),  # torch reads it when it is imported
    }
    for rank in range(number):
        outcome, errors = scratch / f"outcome-{rank}.json", scratch / f"errors-{rank}.txt"
        with errors.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "vertebra.runs.worker", str(job), str(outcome)],
                env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.PIPE,  # closed when this process ends, however it ends: then they end, too
                stdout=None if rank == 0 else subprocess.DEVNULL,
                stderr=None if rank == 0 else file,
                start_new_session=True,  # Ctrl-C comes to this process alone, which passes it on once
            )
        yield Worker(rank, process, outcome, errors)


def wait(workers: Sequence[Worker]) -> None:
    """Wait until all have ended, or one has ended in an error and the others have had their time."""
    deadline = float("inf")
    while any(worker.process.poll() is None for worker in workers) and time.monotonic() < deadline:
        if deadline == float("inf") and any(worker.failed for worker in workers):
            deadline = time.monotonic() + GRACE
        time.sleep(POLL)


def end(workers: Sequence[Worker]) -> None:
    """End whatever still runs."""
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.kill()
    for worker in workers:
        worker.process.wait()
        if worker.process.stdin is not None:
            worker.process.stdin.close()


@contextmanager
def passing_signals_on(workers: Sequence[Worker]) -> Iterator[list[int]]:
    """Pass signals that ask to stop on to all processes; yield the list of those that came."""
    passed: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        passed.append(number)
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.send_signal(number)

    if threading.current_thread() is not threading.main_thread():  # where no handler can be set
        yield passed
        return
    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        yield passed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def reason(workers: Sequence[Worker], failed: Sequence[Worker], *, interrupted: bool) -> RunError | KeyboardInterrupt:
    """Return what ended the run.

    When one process goes, the others fail at their next exchange with it; what counts is what came first.
    """
    outcomes = {worker.rank: outcome for worker in failed if (outcome := worker.outcome())}
    by_kind = {outcome.kind: outcome for outcome in sorted(outcomes.values(), key=lambda one: one.time, reverse=True)}
    if "stopped" in by_kind:
        return StoppedError(outcomes[max(outcomes)].message)  # the main one's says already how to go on
    if interrupted or "interrupted" in by_kind:
        return KeyboardInterrupt()
    if "error" in by_kind:
        error = RunError(by_kind["error"].message)
        error.__cause__ = WorkerTraceback(by_kind["error"].traceback)
    elif silent := [worker for worker in failed if worker.rank not in outcomes]:
        error = RunError(f"{describe(silent[0], len(workers))}. `vertebra resume` goes on from the last checkpoint.")
        error.__cause__ = WorkerTraceback(silent[0].errors_file.read_text(encoding="utf-8", errors="replace"))
    elif "crash" in by_kind:
        error = RunError(f"One of {len(workers)} processes failed: {by_kind['crash'].message}")
        error.__cause__ = WorkerTraceback(by_kind["crash"].traceback)
    else:
        error = RunError("The processes of the run ended, and none said why.")
    return error


def describe(worker: Worker, number: int) -> str:
    """Say how a process ended that could not say so itself."""
    code = worker.process.returncode
    how = f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
    return f"Process {worker.rank + 1} of {number} {how}"


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
