"""Where a named backbone's configuration, tokenizer and weights are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final

from vertebra.config.schema import BackboneConfig
from vertebra.engine.directions import Attention, attention_in
from vertebra.errors import BackboneError

OF_RUN = "vertebra_attention"
"""The key in config.json under which a run leaves how the backbone that it trained looks, where that is not causal."""
EITHER_WAY: Final = "either"
"""What stands there where it learnt to look causally as well as both ways."""
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class BackboneSource:
    """A folder or a Hub name that `AutoConfig`, `AutoTokenizer` and `AutoModel` load."""

    location: str
    revision: str | None = None
    has_weights: bool = True
    """Whether trained weights are there; without them `init=auto` means random."""
    version: str | None = None
    """Of a backbone that comes with a package, and may be another one in the next."""
    from_random: Mapping[str, Any] = field(default_factory=dict)
    """Changes of its configuration where it begins with random weights; what `backbone.config` names comes before them."""
    attention: Attention | None = "causal"
    """How the weights learnt to look; None: causally as well as both ways, so that each task reads as suits it."""


FROM_RANDOM = {"embd_pdrop": 0.2, "resid_pdrop": 0.2}
"""Random weights overfit a task's rows without it; weights that have learnt before lose more by it than they gain."""


def nano(config: BackboneConfig) -> BackboneSource:
    """Return the backbone in the package: a small GPT-2 with its own tokenizer."""
    folder = Path(str(resources.files("vertebra") / "nano"))
    version = json.loads((folder / "version.json").read_text(encoding="utf-8"))["version"]
    trained = (folder / "model.safetensors").exists()
    return BackboneSource(str(folder), has_weights=trained, version=version, from_random=FROM_RANDOM, attention=None)


def hf(config: BackboneConfig) -> BackboneSource:
    """Return the model at `backbone.path`: a local folder or a Hub name; safetensors only."""
    if config.path is None:
        raise BackboneError("backbone=hf needs backbone.path: a local model folder or a Hub name such as 'gpt2'.")
    folder = Path(config.path).expanduser()
    if folder.is_file():
        raise BackboneError(f"backbone.path={config.path} is a file; give the model's folder, which holds config.json.")
    if not folder.is_dir():
        return BackboneSource(config.path, config.revision)
    noted = _read_config(folder).get(OF_RUN)
    attention = None if noted == EITHER_WAY else attention_in(noted) or "causal"
    _check_index(folder)
    return BackboneSource(str(folder), has_weights=any(folder.glob("*.safetensors")), attention=attention)


def _read_config(folder: Path) -> dict[str, Any]:
    """Read config.json; refuse a folder where it does not say what kind of model it holds."""
    file = folder / "config.json"
    if not file.is_file():
        raise BackboneError(f"'{folder}' is not a model folder: it has no config.json.")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise BackboneError(f"'{file}' is not JSON: the file is damaged, or no model's configuration.") from None
    if not isinstance(document, dict) or not isinstance(document.get("model_type"), str):
        raise BackboneError(f"'{file}' is no model's configuration: it has no model_type, such as \"gpt2\".")
    return document


def _check_index(folder: Path) -> None:
    """Refuse an index of weights that names anything but safetensors files beside it; others could be pickles."""
    if not (folder / INDEX).exists():
        return
    try:
        names = list(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise BackboneError(f"'{folder / INDEX}' is no index of weights.") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise BackboneError(f"'{folder / INDEX}' names {name!r}: weights are safetensors files in the same folder.")
