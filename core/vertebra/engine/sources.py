"""Where a named backbone's configuration, tokenizer and weights are."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from vertebra.config.schema import BackboneConfig
from vertebra.errors import BackboneError


@dataclass(frozen=True)
class BackboneSource:
    """A folder or a Hub name that `AutoConfig`, `AutoTokenizer` and `AutoModel` load."""

    location: str
    revision: str | None = None
    has_weights: bool = True
    """Whether trained weights are there; without them `init=auto` means random."""


def nano(config: BackboneConfig) -> BackboneSource:
    """Return the backbone in the package: a small GPT-2 with its own tokenizer."""
    folder = Path(str(resources.files("vertebra") / "nano"))
    return BackboneSource(str(folder), has_weights=(folder / "model.safetensors").exists())


def hf(config: BackboneConfig) -> BackboneSource:
    """Return the model at `backbone.path`: a local folder or a Hub name; safetensors only."""
    if config.path is None:
        raise BackboneError("backbone=hf needs backbone.path: a local model folder or a Hub name such as 'gpt2'.")
    folder = Path(config.path).expanduser()
    if not folder.is_dir():
        return BackboneSource(config.path, config.revision)
    if not (folder / "config.json").is_file():
        raise BackboneError(f"'{folder}' is not a model folder: it has no config.json.")
    return BackboneSource(str(folder), has_weights=any(folder.glob("*.safetensors")))
