"""What a run knows of its adapter: its parameters, their files, and the backbone without it.

An adapter is a function on the backbone. One that only chooses among the backbone's parameters, by `requires_grad`, needs
nothing else; one that puts modules of its own into the backbone may set `backbone.adapter` to say how they are saved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from vertebra.config.adapters import FROZEN
from vertebra.config.schema import AdapterConfig, RunConfig
from vertebra.engine.blocks.passes import find_pass
from vertebra.errors import BackboneError, RunError
from vertebra.host.manager import Host

if TYPE_CHECKING:
    from vertebra.engine.backbone import Backbone

NONE = AdapterConfig.name
SPECIMENS = (
    "The quick brown fox jumps over 13 lazy dogs; didn't it?  Twice!\n\tE-mail: someone@example.org",
    "Zażółć gęślą jaźń. ÉCOLE, naïve ﬁne",
    "中国男足在北京战胜韩国。日本語のテキスト 한국어",
)
"""Texts by which tokenizers with one vocabulary are told apart: by their case, spaces, accents and merges."""


class Adapter:
    """Parameters of the backbone that are trained, saved by their names."""

    FILE = "weights.safetensors"
    merges = True
    """Whether what was learnt can become part of the backbone's own weights."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.base_fingerprint = ""
        """A hash of the weights and the vocabulary of the backbone before it was adapted."""

    def tensors(self) -> dict[str, Tensor]:
        """Return what is saved, by name."""
        return {name: parameter.detach() for name, parameter in trained_parameters(self.backbone)}

    def save(self, folder: Path) -> None:
        """Write the adapter into a folder."""
        folder.mkdir(parents=True)
        found = {name: tensor.cpu().contiguous() for name, tensor in self.tensors().items()}
        save_file(found, str(folder / self.FILE), metadata={"format": "pt"})

    def load(self, folder: Path) -> None:
        """Take up what `save` wrote; `RunError` names the file where it is damaged or another adapter's."""
        file = folder / self.FILE
        try:
            found = load_file(str(file))
        except (OSError, SafetensorError) as error:
            raise RunError(f"Cannot read the adapter in '{file}': {str(error).splitlines()[0]}") from error
        self._require_fit(file, found)
        self.put(found)

    def put(self, tensors: dict[str, Tensor]) -> None:
        """Put these values, which fit, in place."""
        parameters = dict(trained_parameters(self.backbone))
        with torch.no_grad():
            for name, tensor in tensors.items():
                parameters[name].copy_(tensor)

    def merge(self) -> None:
        """Make what was learnt part of the backbone's weights, where it is not yet."""

    def penalty(self) -> Tensor | None:
        """Return what is added to the loss of every step; None for nothing."""
        return None

    def step_ended(self, step: int, total: int) -> None:
        """Act after the update of a step, the first of which is 1, while its gradients are there."""

    def base_weights(self) -> dict[str, Tensor] | None:
        """Return the weights of the plain model without the adapter; None where it is plain as it stands."""
        return None

    def _require_fit(self, file: Path, found: dict[str, Tensor]) -> None:
        wanted = {name: tuple(tensor.shape) for name, tensor in self.tensors().items()}
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        if wrong := sorted(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name)):
            name = wrong[0]
            raise RunError(
                f"The adapter in '{file}' is not one of this run: '{name}' is {_shape(shapes.get(name))}, and should be "
                f"{_shape(wanted.get(name))}."
            )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else str(list(shape))


def adapt(backbone: Backbone, config: RunConfig, host: Host, fingerprint: str | None = None) -> Backbone:
    """Put the configured adapter on a backbone; its first weights are a function of the seed.

    `fingerprint` is what `base_fingerprint` gives for the backbone, where that is known. Raises `BackboneError` where the
    adapter finds no place in the model.
    """
    name = adapter_name(config)
    base = "" if name == NONE else fingerprint or base_fingerprint(backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        adapted: Backbone = host.get("adapter", name).load()(backbone, config.adapter)
    if name != NONE:
        adapted.adapter = adapted.adapter or Adapter(adapted)
        adapted.adapter.base_fingerprint = base
    if adapted.info.layers == "written out" and find_pass(adapted.model) is None:
        adapted.info = replace(adapted.info, layers="transformers")
    return adapted


def adapter_name(config: RunConfig) -> str:
    """Return which adapter a run has: a frozen backbone is one, too."""
    return FROZEN if config.backbone.freeze else config.adapter.name


def leave_room(backbone: Backbone, config: AdapterConfig) -> None:
    """Shorten the backbone's context by what the adapter takes of it."""
    taken = getattr(config, "context", 0)
    if taken >= backbone.info.context:
        raise BackboneError(
            f"adapter={config.name} takes {taken} tokens of the {backbone.info.context} that the backbone can read: none is "
            "left for the text."
        )
    backbone.info = replace(backbone.info, context=backbone.info.context - taken)


def whole_model(backbone: Backbone) -> PreTrainedModel:
    """Return the language model where there is one, else the model inside it."""
    return backbone.language_model or backbone.model


def freeze(backbone: Backbone) -> None:
    """Let nothing of a backbone be trained, its language-model head included."""
    backbone.requires_grad_(False)
    whole_model(backbone).requires_grad_(False)


def trained_parameters(backbone: Backbone) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters of the backbone that training changes, its language-model head's included, each once."""
    seen = set()
    language_model = backbone.language_model
    inside = backbone.named_parameters()
    outside = language_model.named_parameters(prefix="language_model") if language_model is not None else ()
    for name, parameter in (*inside, *outside):
        if parameter.requires_grad and id(parameter) not in seen:
            seen.add(id(parameter))
            yield name, parameter


def base_fingerprint(backbone: Backbone) -> str:
    """Return a hash of a backbone's weights and vocabulary, the same with every version of the libraries."""
    digest = hashlib.sha256()
    _add_tensors(digest, backbone.model.state_dict())
    _add_vocabulary(digest, backbone)
    return digest.hexdigest()


def output_fingerprint(backbone: Backbone) -> str | None:
    """Return a hash of what a language model has beside its backbone, its output layer; None where it has nothing of its own.

    It stands beside `base_fingerprint`, not in it: tasks that read and tasks that write share a backbone.
    """
    language_model = backbone.language_model
    if language_model is None:
        return None
    output, embedding = language_model.get_output_embeddings(), language_model.get_input_embeddings().weight
    own = {name: one for name, one in output.named_parameters() if one is not embedding}
    if not own:
        return None
    digest = hashlib.sha256()
    _add_tensors(digest, own)
    return digest.hexdigest()


def tokenizer_fingerprint(backbone: Backbone) -> str:
    """Return a hash of a backbone's vocabulary and of how its tokenizer cuts texts, the same with every version of it."""
    digest = hashlib.sha256()
    _add_vocabulary(digest, backbone)
    digest.update(repr([backbone.tokenizer(text)["input_ids"] for text in SPECIMENS]).encode())
    return digest.hexdigest()


def _add_tensors(digest: Any, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def _add_vocabulary(digest: Any, backbone: Backbone) -> None:
    for token, number in sorted(backbone.tokenizer.get_vocab().items()):
        digest.update(f"{number} {token!r};".encode())
