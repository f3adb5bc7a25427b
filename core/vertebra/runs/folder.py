"""The run folder: where everything that a run leaves behind is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from vertebra.errors import RunError

FORMAT = 1
"""The version of the run folder's layout; written into `run.json`."""


class RunFolder:
    """The files of one run. Whatever is rewritten is written aside and renamed, so that a reader never sees half of it."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make a new folder for a run; `RunError` where something is there already."""
        path = Path(path).expanduser()
        if (path / "run.json").exists():
            raise RunError(f"'{path}' already holds a run. Choose another place with hydra.run.dir=FOLDER.")
        if path.exists() and not path.is_dir():
            raise RunError(
                f"'{path}' is a file; the run needs a folder. Choose another place with hydra.run.dir=FOLDER."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"Cannot make the run folder '{path}': {error.strerror}.") from error
        return cls(path)

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """Open the folder of a run that has its model; `RunError` where there is none."""
        folder = cls(Path(path).expanduser())
        if not folder.path.is_dir():
            raise RunError(f"There is no run folder '{folder.path}'.")
        state = folder.read_state()
        if not folder.model.is_dir():
            raise RunError(f"The run in '{folder.path}' has no model: its status is '{state['status']}'.")
        return folder

    @property
    def model(self) -> Path:
        """The folder of the trained model."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints of a run that goes on."""
        return self.path / "checkpoints"

    def read_state(self) -> dict[str, Any]:
        """Return `run.json`; `RunError` where it is missing, broken, or of a later format."""
        state = self.read_json("run.json")
        if not isinstance(state, dict) or not isinstance(state.get("format"), int):
            raise RunError(f"'{self.path}' is not a run folder of vertebra: its run.json has no format version.")
        if state["format"] > FORMAT:
            raise RunError(
                f"The run in '{self.path}' has format {state['format']}; this version reads up to {FORMAT}. Upgrade vertebra."
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
        except ValueError as error:
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
        except (yaml.YAMLError, UnicodeDecodeError) as error:
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
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def now() -> str:
    """Return the time as `run.json` has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
