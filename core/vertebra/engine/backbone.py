"""The shared backbone: a causal decoder that turns a packed batch into hidden states.

Letters: T tokens in the packed stream, N sequences, D hidden width, V vocabulary.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from vertebra.config.schema import BackboneConfig
from vertebra.engine.attention import PACKED, UnsupportedAttentionError
from vertebra.engine.packing import PackedBatch, pack
from vertebra.engine.sources import BackboneSource
from vertebra.errors import BackboneError
from vertebra.host.manager import Host
from vertebra.names import unknown
from vertebra.tasks.features import Features

Attention = Literal["causal", "bidirectional"]
Packing = Literal["packed", "padded"]


@dataclass(frozen=True)
class BackboneInfo:
    """What a reader of the results must know of a backbone."""

    name: str
    parameters: int
    init: Literal["pretrained", "random"]
    attention: Attention
    packing: Packing
    context: int
    fingerprint: str
    """A hash of configuration, tokenizer and, where they are pretrained, weights."""
    notes: tuple[str, ...]


class Backbone(nn.Module):
    """A causal decoder without its language-model head, read through packed batches."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, info: BackboneInfo) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.info = info

    @property
    def width(self) -> int:
        """D, the width of the hidden states."""
        return int(self.model.config.hidden_size)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Return the hidden states (T, D) of the last layer, in the stream's order."""
        run = run_packed if self.info.packing == "packed" else run_padded
        return run(self.model, batch, self.info.attention)


def run_packed(model: PreTrainedModel, batch: PackedBatch, attention: Attention) -> Tensor:
    """Run the stream as one row through a model whose attention keeps sequences apart: (T, D)."""
    hidden_1TD: Tensor = model(
        input_ids=batch.input_ids_T.unsqueeze(0),
        position_ids=batch.position_ids_T.unsqueeze(0),
        use_cache=False,
        packed=batch,
        causal=attention == "causal",
    ).last_hidden_state
    return hidden_1TD.squeeze(0)


def run_padded(model: PreTrainedModel, batch: PackedBatch, attention: Attention) -> Tensor:
    """Run one row for each sequence, padded on the right, and take the padding out again: (T, D)."""
    longest = max(batch.lengths)
    real_NL = torch.arange(longest) < torch.tensor(batch.lengths)[:, None]
    real_NL = real_NL.to(batch.input_ids_T.device)
    ids_NL = torch.zeros_like(real_NL, dtype=torch.long)
    ids_NL[real_NL] = batch.input_ids_T
    kwargs = {} if attention == "causal" else {"is_causal": False}
    hidden_NLD: Tensor = model(
        input_ids=ids_NL, attention_mask=real_NL.long(), use_cache=False, **kwargs
    ).last_hidden_state
    return hidden_NLD[real_NL]


# --- loading


def load_backbone(config: BackboneConfig, host: Host, *, prefer: Attention = "causal", seed: int = 0) -> Backbone:
    """Load a backbone as configured; `prefer` is the attention for random weights where the configuration says auto.

    Random weights are a function of `seed`. Raises `BackboneError` when the model cannot be loaded, or cannot attend as
    asked.
    """
    source = find_source(config, host)
    init = _initialisation(config, source)
    tokenizer = load_tokenizer(config, host)
    model_config = load_model_config(config, source)
    dtype = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    model = _random(model_config, dtype, seed) if init == "random" else _pretrained(config, source, model_config, dtype)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise BackboneError(
            f"The tokenizer of backbone '{config.name}' has {len(tokenizer)} entries, its embedding only "
            f"{model.get_input_embeddings().num_embeddings}: they do not belong together."
        )
    model.eval()
    attention: Attention = (
        config.attention if config.attention != "auto" else (prefer if init == "random" else "causal")
    )
    packing, notes = choose_packing(model, config, attention)
    if attention == "bidirectional":
        require_bidirectional(model, packing, config.name)
    if config.gradient_checkpointing:
        checkpoint_activations(model)
    if init == "random":
        notes = ("random weights", *notes)
    info = BackboneInfo(
        name=config.name,
        parameters=sum(p.numel() for p in model.parameters()),
        init=init,
        attention=attention,
        packing=packing,
        context=context_length(config, model_config),
        fingerprint=_fingerprint(model_config, tokenizer, model if init == "pretrained" else None),
        notes=notes,
    )
    return Backbone(model, tokenizer, info)


def find_source(config: BackboneConfig, host: Host) -> BackboneSource:
    """Return where the configured backbone is."""
    source = host.get("backbone", config.name).load()(config)
    assert isinstance(source, BackboneSource)
    return source


def load_tokenizer(config: BackboneConfig, host: Host) -> PreTrainedTokenizerBase:
    """Load the backbone's tokenizer: a fast one, with entries."""
    source = find_source(config, host)
    try:
        with _hub_errors(source):
            tokenizer = AutoTokenizer.from_pretrained(
                source.location, revision=source.revision, trust_remote_code=False, use_fast=True
            )
    except (ValueError, KeyError, TypeError) as error:
        raise BackboneError(f"Cannot read the tokenizer of '{source.location}': {_first_line(error)}") from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise BackboneError(f"'{source.location}' has no tokenizer: put its tokenizer.json beside config.json.")
    if not tokenizer.is_fast:
        raise BackboneError(f"'{source.location}' has no fast tokenizer (tokenizer.json), which offsets need.")
    # The core cuts texts to the context itself, and says so; without this, transformers warns of each long text.
    tokenizer.model_max_length = int(1e30)
    return tokenizer


def load_model_config(config: BackboneConfig, source: BackboneSource) -> PretrainedConfig:
    """Load the model's configuration with the changes of `backbone.config`."""
    try:
        with _hub_errors(source):
            loaded = AutoConfig.from_pretrained(source.location, revision=source.revision, trust_remote_code=False)
    except (ValueError, KeyError, TypeError) as error:
        raise BackboneError(
            f"Cannot read the model configuration of '{source.location}': {_first_line(error)}"
        ) from error
    for name, value in config.config.items():
        if not hasattr(loaded, name):
            raise BackboneError(f"backbone.config: {unknown('setting', name, loaded.to_dict())}")
        setattr(loaded, name, value)
    return loaded


def context_length(config: BackboneConfig, model_config: PretrainedConfig) -> int:
    """Return how many tokens a sequence may have."""
    made_for = int(getattr(model_config, "max_position_embeddings", None) or 1 << 20)
    if config.context is not None and config.context > made_for:
        raise BackboneError(
            f"backbone.context={config.context} is over the {made_for} tokens that '{config.name}' can read."
        )
    return config.context or made_for


def _initialisation(config: BackboneConfig, source: BackboneSource) -> Literal["pretrained", "random"]:
    if config.init == "pretrained" and not source.has_weights:
        raise BackboneError(
            f"Backbone '{config.name}' has no trained weights (no .safetensors in '{source.location}'). "
            "Use backbone.init=random, or another backbone."
        )
    if config.init == "auto" and not source.has_weights and config.name == "hf":
        raise BackboneError(
            f"'{source.location}' holds no .safetensors weights (others are not read, because loading them can run code). "
            "Convert them, or use backbone.init=random for random weights."
        )
    return "random" if config.init == "random" or not source.has_weights else "pretrained"


def _random(model_config: PretrainedConfig, dtype: torch.dtype, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return AutoModel.from_config(model_config, dtype=dtype, trust_remote_code=False)
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise BackboneError(
                f"Cannot build the model that backbone.config asks for: {_first_line(error)}"
            ) from error


def _pretrained(
    config: BackboneConfig, source: BackboneSource, model_config: PretrainedConfig, dtype: torch.dtype
) -> PreTrainedModel:
    from safetensors import SafetensorError

    # Of a download one wants to see the progress.
    bars = quiet_bars() if Path(source.location).is_dir() else nullcontext()
    try:
        with _hub_errors(source), bars:
            model, loading = AutoModel.from_pretrained(
                source.location,
                revision=source.revision,
                config=model_config,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (SafetensorError, RuntimeError, ValueError, TypeError) as error:
        raise BackboneError(f"Cannot load the weights of '{source.location}': {_first_line(error)}") from error
    if loading["missing_keys"] or loading["mismatched_keys"]:
        named = ", ".join(str(key) for key in [*loading["missing_keys"], *loading["mismatched_keys"]][:3])
        raise BackboneError(
            f"The weights in '{source.location}' do not fit the configuration of backbone '{config.name}': {named} missing or "
            "of another shape. Changes of shape need backbone.init=random."
        )
    return model


@contextmanager
def quiet_bars() -> Iterator[None]:
    """Keep transformers' progress bars away from work that takes a moment."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


class _hub_errors:  # noqa: N801  (reads as a statement)
    """Turn transformers' errors about missing files and no network into one line."""

    def __init__(self, source: BackboneSource) -> None:
        self.source = source

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if not isinstance(error, OSError):
            return
        here = Path(self.source.location)
        if here.is_dir():
            raise BackboneError(f"Cannot load '{here}': {_first_line(error)}") from error
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise BackboneError(
            f"Cannot get '{self.source.location}' from the Hub{offline}. Without a network, use a local model folder: "
            "backbone=hf backbone.path=FOLDER; or the embedded backbone=nano."
        ) from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _fingerprint(
    model_config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, weights: PreTrainedModel | None
) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(model_config.to_diff_dict().items()):
        if name not in ("transformers_version", "dtype", "_name_or_path"):
            digest.update(f"{name}={value!r};".encode())
    digest.update(tokenizer.backend_tokenizer.to_str().encode())
    if weights is not None:
        for name, tensor in sorted(weights.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Compute activations twice to save memory; transformers renamed the method in 5.23."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


# --- what a family can do is tried, not believed


def choose_packing(
    model: PreTrainedModel, config: BackboneConfig, attention: Attention
) -> tuple[Packing, tuple[str, ...]]:
    """Try packing on the model itself; where its outputs change, use padded batches, with a note that says why.

    Sets the model's attention to match. `BackboneError` where the configuration insists on packing that fails.
    """
    if config.packing == "padded":
        return "padded", ()
    plain = model.config._attn_implementation
    try:
        if not model._can_set_attn_implementation():
            raise UnsupportedAttentionError("its attention cannot be replaced")
        model.set_attn_implementation(PACKED)
        if _packed_equals_alone(model, plain, attention):
            model.set_attn_implementation(PACKED)
            return "packed", ()
        reason = "its outputs differ when sequences are packed"
    except (UnsupportedAttentionError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        reason = _first_line(error)
    if model.config._attn_implementation != plain:
        model.set_attn_implementation(plain)
    family = model.config.model_type
    if config.packing == "packed":
        raise BackboneError(
            f"backbone.packing=packed does not work for the family '{family}': {reason}. Use padded or auto."
        )
    return "padded", (f"padded batches, because packing was not verified for '{family}' ({reason})",)


@torch.no_grad()
def _packed_equals_alone(model: PreTrainedModel, plain: str, attention: Attention) -> bool:
    """Compare a packed stream with each of its sequences run alone by transformers' own attention."""
    features = [_probe(model, length) for length in (9, 5, 5, 1)]
    hidden_TD = run_packed(model, pack(features, lambda _: None), attention)
    model.set_attn_implementation(plain)
    alone_TD = torch.cat([run_padded(model, pack([one], lambda _: None), attention) for one in features])
    tolerance = 1e-4 if hidden_TD.dtype == torch.float32 else 5e-2
    scale = alone_TD.float().abs().max().clamp(min=1.0)
    return bool((hidden_TD - alone_TD).float().abs().max() <= tolerance * scale)


@torch.no_grad()
def require_bidirectional(model: PreTrainedModel, packing: Packing, name: str) -> None:
    """Change the last token: in bidirectional attention the first hidden state must move, else `BackboneError`."""
    run = run_packed if packing == "packed" else run_padded
    first = _probe(model, 8)
    changed = Features(first.input_ids.copy())
    changed.input_ids[-1] = (changed.input_ids[-1] + 1) % model.get_input_embeddings().num_embeddings
    before, after = (run(model, pack([one], lambda _: None), "bidirectional")[0] for one in (first, changed))
    if bool(((before - after).abs() <= 1e-6 * before.abs().max()).all()):
        raise BackboneError(
            f"Backbone '{name}' (family '{model.config.model_type}') cannot attend in both directions. "
            "Use backbone.attention=causal."
        )


def _probe(model: PreTrainedModel, length: int) -> Features:
    vocabulary = model.get_input_embeddings().num_embeddings
    place = np.arange(length, dtype=np.int32)
    return Features((7 * place * place + 3 * length) % vocabulary)
