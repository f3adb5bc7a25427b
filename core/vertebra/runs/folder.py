"""The run folder: where everything that a run leaves behind is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from vertebra.errors import RunError

TASKS = "tasks"
"""The folder in that of a run of several tasks where each of them has its own."""
FISHER = "fisher"
"""The folder with what elastic weight consolidation knows of an earlier run's task."""
FORMAT = 1
"""The version of the run folder's layout; written into `run.json`."""
BEFORE_THE_FIRST_STEP = ("data.json", "baselines.json", "cost.json", "log.jsonl", "evaluations.jsonl")
"""What a run may write before its first step, besides the files that every run begins with."""


class RunFolder:
    """The files of one run. Whatever is rewritten is written aside and renamed, so that a reader never sees half of it."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make a folder for a new run; `RunError` where there is one that must be kept, or a file."""
        path = Path(path).expanduser()
        run = cls(path)
        run.refuse_if_taken()
        if path.exists() and not path.is_dir():
            raise RunError(
                f"'{path}' is a file; the run needs a folder. Choose another place with hydra.run.dir=FOLDER."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"Cannot make the run folder '{path}': {error.strerror}.") from error
        return run

    def refuse_if_taken(self) -> None:
        """Raise `RunError` where a new run may not begin in the folder."""
        if not self.is_free:
            raise RunError(
                f"'{self.path}' already holds a run. Go on with it: vertebra resume '{self.path}'; "
                "or choose another place with hydra.run.dir=FOLDER."
            )

    @property
    def is_free(self) -> bool:
        """Whether a new run may begin here: there is none, or one that failed before its first step, so that nothing is lost.

        One that was stopped or killed is kept wherever it stood.
        """
        if not (self.path / "run.json").exists():
            return True
        try:
            return self.read_state().get("status") == "failed" and not self.has_learnt
        except RunError:  # of another version, or damaged: it is not ours to judge
            return False

    @property
    def has_learnt(self) -> bool:
        """Whether there are traces of a step: a line of the log, or a checkpoint."""
        log = self.path / "log.jsonl"
        return self.checkpoints.exists() or (log.exists() and log.stat().st_size > 0)

    def vacate(self) -> None:
        """Remove what a run that failed before its first step has left, and nothing else that is in the folder."""
        if (self.path / "run.json").exists():
            self.sweep()
            shutil.rmtree(self.path / FISHER, ignore_errors=True)
            for name in (*BEFORE_THE_FIRST_STEP, "run.json"):  # this one last: until then the folder is that run's
                (self.path / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a process that was killed had not finished writing."""
        for left in list(self.path.rglob(".*.tmp")):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from working in the folder; the lock goes with its process, however that ends."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise RunError(f"Another process is working in '{self.path}'.") from None
        except OSError as error:
            raise RunError(f"Cannot write in the run folder '{self.path}': {error.strerror or error}.") from error
        try:
            yield
        finally:
            lock.release()

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """Open the folder of a run that has its model; `RunError` where there is none."""
        folder = cls(Path(path).expanduser())
        if not folder.path.is_dir():
            raise RunError(f"There is no run folder '{folder.path}'.")
        state = folder.read_state()
        if not folder.model.is_dir():
            raise RunError(f"The run in '{folder.path}' has no model: its status is '{state.get('status')}'.")
        return folder

    def of_task(self, task: str) -> RunFolder:
        """Return the folder of one task in that of a run of several: with its results, it reads like that of a run."""
        return RunFolder(self.path / TASKS / task)

    @property
    def model(self) -> Path:
        """The folder of the trained model; a task of a run of several has that of its run."""
        own = self.path / "model"
        tasks = self.path.absolute().parent
        run = tasks.parent
        # A folder that is called `tasks` is a run's only where there is a run beside it.
        is_part = tasks.name == TASKS and (run / "run.json").is_file() and not own.is_dir()
        return run / "model" if is_part else own

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints of a run that goes on."""
        return self.path / "checkpoints"

    def read_state(self) -> dict[str, Any]:
        """Return `run.json`; `RunError` where it is missing, broken, or of a later format."""
        state = self.read_json("run.json")
        if not isinstance(state, dict) or not isinstance(state.get("format"), int):
            raise RunError(f"'{self.path}' is not a run folder of vertebra: its run.json has no format version.")
        if state["format"] != FORMAT:
            advice = (
                "Upgrade vertebra." if state["format"] > FORMAT else "Use the version that made it, or run it again."
            )
            raise RunError(
                f"The run in '{self.path}' has format {state['format']}; this version reads {FORMAT}. {advice}"
            )
        return state

    def update_state(self, **changes: Any) -> None:
        """Change entries of `run.json`."""
        known = self.read_json("run.json") if (self.path / "run.json").exists() else {"format": FORMAT}
        self.write_json("run.json", {**known, **changes})

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file; `RunError` where it is missing or broken."""
        file = self.path / name
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"'{self.path}' is not a whole run folder: it has no {name}.") from None
        except UnicodeDecodeError:
            raise RunError(f"'{file}' is not JSON: it is no text.") from None
        except (ValueError, RecursionError) as error:
            raise RunError(f"'{file}' is not JSON: {error}.") from None

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file."""
        self.write_text(name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def read_config(self) -> dict[str, Any]:
        """Return the content of `config.yaml`; `RunError` where it is missing or broken."""
        try:
            document = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"'{self.path}' is not a whole run folder: it has no config.yaml.") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise RunError(f"'{self.path / 'config.yaml'}' cannot be read: {str(error).splitlines()[0]}.") from None
        if not isinstance(document, dict):
            raise RunError(f"'{self.path / 'config.yaml'}' is not a run's configuration.")
        return document

    def write_config(self, document: Mapping[str, Any]) -> None:
        """Write `config.yaml`."""
        self.write_text("config.yaml", yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True))

    def write_text(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all."""
        place = self.path / name
        aside = place.with_name(f".{name}.{os.getpid()}.tmp")
        try:
            aside.write_text(text, encoding="utf-8")
            aside.replace(place)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise RunError(f"Cannot write '{place}': {error.strerror or error}.") from error

    def write_lines(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write a JSONL file."""
        self.write_text(name, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def append_line(self, name: str, line: Mapping[str, Any]) -> None:
        """Add a line to a JSONL file."""
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            raise RunError(f"Cannot write '{self.path / name}': {error.strerror or error}.") from error


def now() -> str:
    """Return the time as `run.json` has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
