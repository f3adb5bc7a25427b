"""Adapters by peft, in peft's own format on disk: `PeftModel.from_pretrained` loads them onto the plain backbone.

Nothing of a folder's `adapter_config.json` is believed: the adapter is built from the run's configuration, and its weights
are taken only where every name and shape is the one expected.

Letters: N sequences.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from vertebra.config.adapters import LoRAConfig, PrefixConfig, Targets
from vertebra.config.schema import AdapterConfig
from vertebra.engine.adapters.adapter import Adapter, whole_model
from vertebra.engine.backbone import Backbone
from vertebra.errors import BackboneError

NAME = "default"
"""What peft calls the only adapter of a model."""


class PeftAdapter(Adapter):
    """What peft put into the backbone's modules."""

    FILE = "adapter_model.safetensors"

    def __init__(self, backbone: Backbone, model: Any) -> None:
        """Take peft's model, which is around the backbone's own."""
        super().__init__(backbone)
        self.model = model

    def tensors(self) -> dict[str, Tensor]:
        """Return what is saved, by the names that peft gives it."""
        from peft import get_peft_model_state_dict

        found: dict[str, Tensor] = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        return {name: tensor.detach() for name, tensor in found.items()}

    def save(self, folder: Path) -> None:
        """Write `adapter_model.safetensors` and `adapter_config.json`."""
        super().save(folder)
        config = copy.copy(self.model.peft_config[NAME])
        config.inference_mode = True
        config.save_pretrained(str(folder))

    def put(self, tensors: dict[str, Tensor]) -> None:
        """Put these values, which fit, in place."""
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(self.model, tensors)

    def merge(self) -> None:
        """Add what was learnt to the matrices; peft's layers are gone afterwards."""
        self.model.merge_and_unload()

    def base_weights(self) -> dict[str, Tensor] | None:
        """Return the weights of the model that peft's layers surround."""
        weights = whole_model(self.backbone).state_dict()
        own = {
            f"{name.removeprefix('base_model.model.')}" for name in self.model.state_dict() if ".base_layer." in name
        }
        surrounded = {name.rpartition(".base_layer.")[0] for name in own}
        return {
            name.replace(".base_layer.", "."): tensor
            for name, tensor in weights.items()
            if ".base_layer." in name or not any(name.startswith(f"{one}.") for one in surrounded)
        }


def lora(backbone: Backbone, config: LoRAConfig) -> Backbone:
    """Add a product of two thin matrices to each matrix; `name` says which of the three ways."""
    from peft import LoraConfig

    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        use_dora=config.name == "dora",
        use_rslora=config.name == "rslora",
        target_modules=targets(config.targets),
        fan_in_fan_out=transposed(backbone),
    )
    backbone.adapter = PeftAdapter(backbone, inject(backbone, config, settings))
    return backbone


def ia3(backbone: Backbone, config: AdapterConfig) -> Backbone:
    """Scale keys, values and the feed-forward part's inner activations by learnt vectors (Liu and others, 2022)."""
    from peft import IA3Config

    settings = IA3Config(fan_in_fan_out=transposed(backbone))
    backbone.adapter = PeftAdapter(backbone, inject(backbone, config, settings))
    return backbone


def targets(chosen: Targets) -> Any:
    """Return what peft calls these matrices."""
    return {"all": "all-linear", "attention": None}[chosen] if isinstance(chosen, str) else list(chosen)


def inject(backbone: Backbone, config: AdapterConfig, settings: Any) -> Any:
    """Put peft's layers into the backbone's model, and return peft's model around it.

    Raises `BackboneError` where peft cannot, or where one of them is not around a linear layer of the model that gives the
    hidden states.
    """
    from peft import get_peft_model

    linear = {
        id(module): name.rpartition(".")[2]
        for name, module in backbone.model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }
    with _explained(backbone, config):
        model = get_peft_model(whole_model(backbone), settings)
    _require_linear(model, config, linear)
    return model


def _require_linear(model: Any, config: AdapterConfig, linear: dict[int, str]) -> None:
    """Raise where one of peft's layers is around another module than these, such as an embedding or the output matrix.

    Peft takes them. But mixed passes add to the rows of linear layers alone, a loss reads the bare output matrix, and merging
    into one that is the embedding, too, would change both.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in model.base_model.model.named_modules():
        if isinstance(module, BaseTunerLayer) and id(module.get_base_layer()) not in linear:
            raise BackboneError(
                f"adapter={config.name} cannot be put on '{name}', which is no linear layer inside the backbone; "
                f"adapter.targets may name {', '.join(sorted(set(linear.values())))}."
            )


@contextmanager
def _explained(backbone: Backbone, config: AdapterConfig) -> Iterator[None]:
    """Turn what peft cannot do with a model into one line, and keep its remarks to programmers away."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        family = backbone.model.config.model_type
        raise BackboneError(
            f"adapter={config.name} cannot be put on a model of the family '{family}': {str(error).splitlines()[0]}"
        ) from error


def transposed(backbone: Backbone) -> bool:
    """Whether the model keeps its matrices as GPT-2 does, inputs first."""
    return any(isinstance(module, Conv1D) for module in backbone.model.modules())


# --- keys and values that every sequence attends to


class Prefix(nn.Module):
    """Learnt keys and values, for as many sequences as are asked for."""

    def __init__(self, model: Any) -> None:
        """Take peft's model, whose prefix becomes a part of this module."""
        super().__init__()
        self.encoder = model.prompt_encoder
        self.tokens = int(model.peft_config[NAME].num_virtual_tokens)
        self._model = (model,)  # no child of this module: the backbone is inside

    def forward(self, n_sequences: int) -> Any:
        """Return a cache with the keys and values of each of N sequences."""
        return self._model[0].get_prompt(n_sequences)


class PrefixAdapter(PeftAdapter):
    """Nothing is put into the model's modules, and nothing can become part of its matrices."""

    merges = False

    def base_weights(self) -> None:
        """Say that the model is plain as it stands."""
        return


def prefix(backbone: Backbone, config: PrefixConfig) -> Backbone:
    """Train keys and values that stand before each sequence in every layer."""
    from peft import PrefixTuningConfig, get_peft_model

    if backbone.info.packing != "padded":
        raise BackboneError("adapter=prefix needs padded batches: backbone.packing=padded.")
    settings = PrefixTuningConfig(num_virtual_tokens=config.tokens, task_type="FEATURE_EXTRACTION")
    with _explained(backbone, config):
        model = get_peft_model(backbone.model, settings)
        with torch.no_grad():
            model.get_prompt(1)
    whole_model(backbone).requires_grad_(False)
    backbone.prefix = Prefix(model)
    backbone.adapter = PrefixAdapter(backbone, model)
    return backbone
