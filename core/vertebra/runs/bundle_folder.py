"""The folder of a task bundle: what a trained task is without the backbone that it shares with others.

bundle.json          format, task, adapter, and by which fingerprints its backbone and tokenizer are known
config.json          the settings that it was trained with
model/heads.safetensors
model/tasks.json     what the task's `fit` learnt, such as its labels
model/adapter/       what the adapter learnt; none for a frozen backbone
metrics.json, intervals.json
README.md            the model card
manifest.json        the SHA-256 of every other file

Safetensors and JSON alone; other files are never opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vertebra.errors import RunError
from vertebra.runs.folder import RunFolder
from vertebra.runs.task_folders import folder_of_task

BUNDLE = "bundle.json"
FORMAT = 1
"""The version of the bundle's layout; written into `bundle.json`."""
PARTS = {
    "model/adapter": "the adapter",
    "model/heads.safetensors": "the head",
    "model/tasks.json": "what the task learnt (its labels)",
    "config.json": "the configuration",
    BUNDLE: "the description",
    "metrics.json": "the metrics",
    "intervals.json": "the metrics' intervals",
    "README.md": "the model card",
}
"""What the files of a bundle are, by their names or their folders'."""
NEEDED = (BUNDLE, "config.json", "model/heads.safetensors", "model/tasks.json", "metrics.json", "README.md")


class BundleFolder(RunFolder):
    """The files of a bundle, read as those of a run are."""

    def read_state(self) -> dict[str, Any]:
        """Return `bundle.json`; `RunError` where it is missing, broken, or of another format."""
        state = self.read_json(BUNDLE)
        if not isinstance(state, dict) or not isinstance(state.get("format"), int):
            raise RunError(f"'{self.path}' is not a task bundle: its {BUNDLE} has no format version.")
        if state["format"] != FORMAT:
            advice = "Upgrade vertebra." if state["format"] > FORMAT else "Export it again with this version."
            raise RunError(
                f"The bundle in '{self.path}' has format {state['format']}; this version reads {FORMAT}. {advice}"
            )
        return state

    def read_config(self) -> dict[str, Any]:
        """Return the content of `config.json`; `RunError` where it is missing or broken."""
        document = self.read_json("config.json")
        if not isinstance(document, dict):
            raise RunError(f"'{self.path / 'config.json'}' is not a run's configuration.")
        return document

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file; `RunError` that names the part where it is missing or broken."""
        if not (self.path / name).is_file():
            raise RunError(f"The bundle in '{self.path}' is not whole: {self.part(name)} ({name}) is missing.")
        return super().read_json(name)

    def require_whole(self) -> None:
        """Raise `RunError`, by the name of the broken part, unless every part is there with its SHA-256."""
        from vertebra.engine.checkpoints import file_hash, read_manifest

        try:
            hashes: Mapping[str, str] = read_manifest(self.path)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise RunError(
                f"The bundle in '{self.path}' cannot be trusted: its manifest.json, which has the hash of every part, is "
                "missing or damaged. Get the bundle again."
            ) from None
        missing = [name for name in dict.fromkeys([*NEEDED, *hashes]) if not (self.path / name).is_file()]
        if missing:
            raise RunError(
                f"The bundle in '{self.path}' is not whole: {self.part(missing[0])} ({missing[0]}) is missing. Get it again."
            )
        for name in dict.fromkeys([*NEEDED, *hashes]):
            file = self.path / name
            # A link may lead anywhere.
            linked = any(one.is_symlink() for one in (file, *self._above(name)))
            if linked or file_hash(file) != hashes.get(name):
                raise RunError(
                    f"The bundle in '{self.path}' is damaged: {self.part(name)} ({name}) is not what manifest.json says: "
                    "truncated, or of another bundle. Get it again, or export it anew."
                )

    def _above(self, name: str) -> list[Path]:
        """Return the folders inside the bundle in which a file is."""
        return [self.path / one for one in Path(name).parents if str(one) != "."]

    @staticmethod
    def part(name: str) -> str:
        """Say what a file of a bundle is."""
        return next((said for known, said in PARTS.items() if name == known or name.startswith(f"{known}/")), "a part")


def open_trained(path: Path | str, task: str | None = None) -> RunFolder:
    """Open the folder of a trained run, of one `task` of a run of several, or of a bundle; `RunError` where there is none."""
    folder = Path(path).expanduser()
    if not (folder / BUNDLE).is_file():
        return RunFolder.open(folder_of_task(path, task))
    bundle = BundleFolder(folder)
    bundle.read_state()
    return bundle
