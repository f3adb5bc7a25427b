"""Load a backbone: its configuration, tokenizer and weights, from the package, a folder or the Hub, running no foreign code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging

from vertebra.config.schema import BackboneConfig
from vertebra.data.files import listed
from vertebra.engine.backbone import Backbone, BackboneInfo, causal_layers
from vertebra.engine.directions import Attention
from vertebra.engine.probes import (
    choose_layers,
    choose_packing,
    require_bidirectional,
    require_causal,
    require_plain_logits,
)
from vertebra.engine.sources import BackboneSource
from vertebra.errors import BackboneError
from vertebra.host.manager import Host
from vertebra.hub import hub_answers, offline
from vertebra.names import did_you_mean, unknown

# What a model folder, anybody's, can make transformers raise.
FOREIGN = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    TypeError,
    ValueError,
)
MOST_LAYERS = 10_000
"""Even without weights, each layer takes memory and time; no model comes near this."""


def load_backbone(
    config: BackboneConfig,
    host: Host,
    *,
    prefer: Attention = "causal",
    seed: int = 0,
    language_model: bool = False,
) -> Backbone:
    """Load a backbone as configured; `prefer` is how the task would look where the configuration says auto.

    Random weights are a function of `seed`. `language_model` asks for the language-model head, too; with `prefer` causal that
    is refused to a bidirectional backbone, which would see what it is to write. Raises `BackboneError`
    when the model cannot be loaded, or cannot attend or write as asked.
    """
    if language_model and prefer == "causal":
        refuse_bidirectional(config)
    source = find_source(config, host)
    init = initialisation(config, host)
    tokenizer = load_tokenizer(config, host)
    model_config = load_model_config(config, source)
    dtype = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    kind = AutoModelForCausalLM if language_model else AutoModel
    whole = (
        _random(kind, model_config, dtype, seed)
        if init == "random"
        else _pretrained(kind, config, source, model_config, dtype)
    )
    model = _inside(whole, config) if language_model else whole
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise BackboneError(
            f"The tokenizer of backbone '{config.name}' has {len(tokenizer)} entries, its embedding only "
            f"{model.get_input_embeddings().num_embeddings}: they do not belong together."
        )
    model.eval()
    attention = settled_attention(config, source, init, prefer)
    own_attention = model.config._attn_implementation
    packing, notes = choose_packing(model, config, attention)
    if all(causal_layers(attention, model)):
        require_causal(model, packing, config.name)
    else:
        require_bidirectional(model, packing, config.name, attention)
    layers, note = choose_layers(model, packing, attention)
    if config.gradient_checkpointing:
        checkpoint_activations(model)
    if init == "random":
        notes = ("random weights", *notes)
    notes = (*notes, *note)
    info = BackboneInfo(
        name=config.name,
        parameters=sum(p.numel() for p in whole.parameters()),
        init=init,
        attention=attention,
        packing=packing,
        layers=layers,
        context=context_length(config, model_config),
        fingerprint=_fingerprint(model_config, tokenizer, whole if init == "pretrained" else None),
        notes=notes,
        version=source.version,
    )
    return Backbone(model, tokenizer, info, whole if language_model else None, own_attention)


def settled_attention(
    config: BackboneConfig, source: BackboneSource, init: Literal["random", "pretrained"], prefer: Attention
) -> Attention:
    """Return the attention that is configured, or what auto means: what the task prefers, as far as the weights know it."""
    if config.attention != "auto":
        return config.attention
    if init == "random" or prefer == "causal" or source.attention is None:
        return prefer
    # Padded batches have one direction in all layers.
    by_layer = not isinstance(source.attention, str)
    return "causal" if config.packing == "padded" and by_layer else source.attention


def refuse_bidirectional(config: BackboneConfig) -> None:
    """Raise `BackboneError` where the backbone is to write texts and yet to see what comes."""
    attention = config.attention
    if "bidirectional" in attention if isinstance(attention, str | tuple) else attention > 0:
        raise BackboneError(
            "backbone.attention=bidirectional cannot write a text, be it in some layers alone: its next token would have seen "
            "itself. Use causal or auto."
        )


def _inside(whole: PreTrainedModel, config: BackboneConfig) -> PreTrainedModel:
    """Return what gives the hidden states of a language model; `BackboneError` where its head is more than a matrix."""
    model = whole.base_model
    if not isinstance(model, PreTrainedModel) or model is whole or whole.get_output_embeddings() is None:
        raise BackboneError(
            f"Backbone '{config.name}' (family '{whole.config.model_type}') has no language-model head of its own over its "
            "hidden states, and cannot write texts here."
        )
    require_plain_logits(whole.eval(), config.name)
    return model


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
    except FOREIGN as error:
        raise BackboneError(f"Cannot read the tokenizer of '{source.location}': {_first_line(error)}") from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise BackboneError(f"'{source.location}' has no tokenizer: put its tokenizer.json beside config.json.")
    if not tokenizer.is_fast:
        raise BackboneError(f"'{source.location}' has no fast tokenizer (tokenizer.json), which offsets need.")
    # The core cuts texts to the context itself, and says so; without this, transformers warns of each long text.
    tokenizer.model_max_length = int(1e30)
    return tokenizer


def load_model_config(config: BackboneConfig, source: BackboneSource) -> PretrainedConfig:
    """Load the model's configuration with the changes of `backbone.config`, and those for random weights."""
    _check_family(source)
    try:
        with _hub_errors(source):
            loaded = AutoConfig.from_pretrained(source.location, revision=source.revision, trust_remote_code=False)
    except FOREIGN as error:
        raise BackboneError(
            f"Cannot read the model configuration of '{source.location}': {_first_line(error)}"
        ) from error
    random = config.init == "random" or not source.has_weights
    for name, value in {**(source.from_random if random else {}), **config.config}.items():
        if not hasattr(loaded, name):
            raise BackboneError(f"backbone.config: {unknown('setting', name, loaded.to_dict())}")
        try:
            setattr(loaded, name, value)
        except FOREIGN as error:
            raise BackboneError(f"backbone.config.{name}={value}: {_first_line(error)}") from error
    _check_shape(loaded, source)
    # What a stranger's folder must not choose: attention that comes as code from the Hub, and other weight files.
    loaded._attn_implementation = None
    vars(loaded).pop("transformers_weights", None)
    return loaded


def _check_family(source: BackboneSource) -> None:
    """Refuse a local folder of a family that transformers does not have."""
    file = Path(source.location) / "config.json"
    if not file.is_file():
        return
    family = json.loads(file.read_text(encoding="utf-8"))["model_type"]
    if family not in CONFIG_MAPPING:
        raise BackboneError(
            f"'{file}': transformers has no model family '{family}'.{did_you_mean(family, CONFIG_MAPPING)} "
            "It may need a later version of transformers, or code of its own, which is not run."
        )


def _check_shape(loaded: PretrainedConfig, source: BackboneSource) -> None:
    """Refuse what cannot be built, or would be built and be no model."""
    if loaded.is_encoder_decoder:
        raise BackboneError(f"'{source.location}' is an encoder and a decoder; a backbone is a decoder alone.")
    for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
        value = getattr(loaded, name, None)
        if isinstance(value, int) and value < 1:
            raise BackboneError(f"backbone.config.{loaded.attribute_map.get(name, name)}={value}: must be at least 1.")
    if isinstance(loaded.num_hidden_layers, int) and loaded.num_hidden_layers > MOST_LAYERS:
        raise BackboneError(
            f"'{source.location}' claims {loaded.num_hidden_layers} layers; more than {MOST_LAYERS} are refused."
        )


def context_length(config: BackboneConfig, model_config: PretrainedConfig) -> int:
    """Return how many tokens a sequence may have."""
    made_for = int(getattr(model_config, "max_position_embeddings", None) or 1 << 20)
    if config.context is not None and config.context > made_for:
        raise BackboneError(
            f"backbone.context={config.context} is over the {made_for} tokens that '{config.name}' can read."
        )
    return config.context or made_for


def initialisation(config: BackboneConfig, host: Host) -> Literal["pretrained", "random"]:
    """Return which weights a backbone starts from; `BackboneError` where those that are wanted are not there."""
    source = find_source(config, host)
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


def _random(kind: Any, model_config: PretrainedConfig, dtype: torch.dtype, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            made: PreTrainedModel = kind.from_config(model_config, dtype=dtype, trust_remote_code=False)
            return made
        except FOREIGN as error:
            raise BackboneError(
                f"Cannot build the model that backbone.config asks for: {_first_line(error)}"
            ) from error


def _pretrained(
    kind: Any, config: BackboneConfig, source: BackboneSource, model_config: PretrainedConfig, dtype: torch.dtype
) -> PreTrainedModel:
    # Of a download one wants to see the progress.
    bars = quiet_bars() if Path(source.location).is_dir() else nullcontext()
    try:
        with _hub_errors(source), bars:
            model, loading = kind.from_pretrained(
                source.location,
                revision=source.revision,
                config=model_config,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
            )
    except FOREIGN as error:
        raise BackboneError(f"Cannot load the weights of '{source.location}': {_first_line(error)}") from error
    other_shape = [f"{name} is {list(found)}, not {list(wanted)}" for name, found, wanted in loading["mismatched_keys"]]
    missing = [f"{name} is missing" for name in loading["missing_keys"]]
    if missing or other_shape:
        raise BackboneError(
            f"The weights in '{source.location}' do not fit its configuration: "
            f"{listed([*sorted(other_shape), *sorted(missing)], 3)}. Changes of shape need backbone.init=random."
        )
    loaded: PreTrainedModel = model
    return loaded


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


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Keep transformers' warnings to itself: what is wrong with a model is said once, by what follows its loading."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def _hub_errors(source: BackboneSource) -> Iterator[None]:
    """Turn transformers' errors about missing files and no network into one line, and do not wait for a network."""
    here = Path(source.location)
    local = here.is_dir()
    reachable = local or hub_answers()
    try:
        with _quiet_log(), nullcontext() if reachable else offline():
            yield
    except OSError as error:
        if local:
            raise BackboneError(f"Cannot load '{here}': {_first_line(error)}") from error
        reason = _first_line(error) if reachable else "it cannot be reached, and the model is not in the local cache."
        raise BackboneError(
            f"Cannot get '{source.location}' from the Hub: {reason} A local model folder needs no network: "
            "backbone=hf backbone.path=FOLDER; nor does the embedded backbone=nano."
        ) from error


def _first_line(error: BaseException) -> str:
    """Return what an error of transformers says, without what only its programmers understand."""
    if isinstance(error, StrictDataclassError):  # it stands in the cause what is wrong
        error = error.__cause__ or error
    text = str(error).strip()
    if "trust_remote_code" in text:
        return "it needs code that it brings itself, and no such code is run"
    if isinstance(error, SafetensorError):
        return f"the file is damaged or cut off ({text})."
    if isinstance(error, KeyError):
        return f"transformers knows no {text}."
    first = text.splitlines()[0] if text else ""
    if first.startswith("Field ") or (first and isinstance(error, OSError | RuntimeError | ValueError)):
        return first
    return "a value in it is missing, or of a kind that transformers cannot use (VERTEBRA_TRACEBACK=1 shows where)."


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
