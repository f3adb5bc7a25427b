"""Runs the command line in processes that may be killed at any moment, and says what a run came to."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A process that has imported everything once, and forks one for each command that it reads: imports take far longer than
# these runs. A forked process can kill itself at the n-th of the moments that can be told apart in a run.
SPAWNER = """
import json, os, signal, sys, traceback
import vertebra.runs.execute as execute
import vertebra.cli.sweep as report
import vertebra.runs.sweep as sweep
from vertebra.cli import resume, train
from vertebra.cli.main import main
from vertebra.config import compose
from vertebra.engine import checkpoints, trainer
from vertebra.engine.backbone import Backbone
from vertebra.engine.model import TaskModel

passed, kill_at = 0, 0

def moment():
    global passed
    passed += 1
    if passed == kill_at:
        os.killpg(0, signal.SIGKILL)  # all of the group, as a machine that goes down does

def watch(owner, name):
    inner = getattr(owner, name)
    def outer(*args, **kwargs):
        moment()
        result = inner(*args, **kwargs)
        moment()
        return result
    setattr(owner, name, outer)

watch(TaskModel, "forward")                # pieces of steps, and batches of evaluations
watch(Backbone, "forward")                 # in them, or before them where it is frozen
watch(checkpoints, "file_hash")            # half way through the writing of a checkpoint
watch(checkpoints, "_flush")
watch(checkpoints.Checkpoints, "forget")
watch(trainer.Trainer, "_clipped_norm")
watch(execute, "write_results")
watch(execute, "write_report")
watch(execute, "save_model_folder")
watch(sweep, "prepare")                    # between the jobs of a sweep
watch(sweep, "read_result")
watch(report, "write_sweep")

for line in sys.stdin:
    command = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        kill_at = command["kill_at"]
        said = os.open(command["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        try:
            code = main(command["arguments"])
            print("moments", passed)
        except BaseException:
            traceback.print_exc()
            code = 99
        sys.stdout.flush()
        os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status, flush=True)
"""


@dataclass(frozen=True)
class Done:
    """How a command ended, and all that it said."""

    returncode: int
    output: str


class Spawner:
    """Runs the command line in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "output"
        command = [sys.executable, "-c", SPAWNER]
        environment = {**os.environ, "VERTEBRA_CACHE": str(folder / "cache")}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    @classmethod
    @contextmanager
    def started(cls, folder: Path) -> Iterator[Spawner]:
        """Start one, and end it in the end."""
        spawner = cls(folder)
        yield spawner
        assert spawner.process.stdin is not None and spawner.process.stdout is not None
        spawner.process.stdin.close()
        spawner.process.kill()  # it has nothing to finish
        spawner.process.wait()
        spawner.process.stdout.close()

    def __call__(self, *arguments: str, kill_at: int = 0) -> Done:
        """Run `vertebra ARGUMENTS`; `kill_at` > 0 kills it at that moment."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.output.unlink(missing_ok=True)
        command = {"arguments": arguments, "kill_at": kill_at, "output": str(self.output)}
        print(json.dumps(command), file=self.process.stdin, flush=True)
        code = int(self.process.stdout.readline())
        return Done(code, self.output.read_text(encoding="utf-8") if self.output.exists() else "")


def fingerprint(folder: Path) -> dict[str, Any]:
    """Return the hashes of all that must not differ."""
    files = ["model/backbone/model.safetensors", "model/heads.safetensors", "log.jsonl", "evaluations.jsonl"]
    files += ["metrics.json", "predictions.jsonl", "intervals.json"]
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert state["status"] == "finished"
    return {**hashes, "weights": state["weights"], "key": state["key"]}
