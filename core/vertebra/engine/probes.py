"""What a family of models can do is tried on the model itself, not believed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from vertebra.config.schema import BackboneConfig
from vertebra.engine.attention import PACKED, UnsupportedAttentionError
from vertebra.engine.backbone import Layers, Packing, causal_layers, run_packed, run_padded, run_written_out
from vertebra.engine.directions import Attention
from vertebra.engine.packing import pack
from vertebra.errors import BackboneError
from vertebra.tasks.features import Features

LARGE_LOGIT = 200.0
"""Larger than what families cap their logits at."""
LAYER_TYPES = {"full_attention", "sliding_attention"}


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
        require_static_rotation(model.config)
        require_known_layers(model.config)
        if not model._can_set_attn_implementation():
            raise UnsupportedAttentionError("its attention cannot be replaced")
        # Layers that look in different directions are tried apart: transformers' own attention has one for all of them.
        directions = set(causal_layers(attention, model))
        if all(_packed_equals_alone(model, plain, "causal" if one else "bidirectional") for one in directions):
            model.set_attn_implementation(PACKED)
            return "packed", ()
        reason = "its outputs differ when sequences are packed"
    except (UnsupportedAttentionError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
    if model.config._attn_implementation != plain:
        model.set_attn_implementation(plain)
    family = model.config.model_type
    if config.packing == "packed":
        raise BackboneError(
            f"backbone.packing=packed does not work for the family '{family}': {reason}. Use padded or auto."
        )
    return "padded", (f"padded batches, because packing was not verified for '{family}' ({reason})",)


def require_static_rotation(config: PretrainedConfig) -> None:
    """Raise where rotary positions depend on the longest sequence in the batch: short trials do not show that."""
    found = repr(getattr(config.get_text_config(), "rope_parameters", None))
    for kind in ("dynamic", "longrope"):
        if f"'{kind}'" in found:
            raise UnsupportedAttentionError(f"its rotary positions are '{kind}'")


def require_known_layers(config: PretrainedConfig) -> None:
    """Raise where a layer may look back less far than its attention is told to: short trials do not show that."""
    kinds = set(getattr(config.get_text_config(), "layer_types", None) or ())
    if unknown := sorted(kinds - LAYER_TYPES):
        raise UnsupportedAttentionError(f"it has layers of the kind '{unknown[0]}'")


@torch.no_grad()
def choose_layers(model: PreTrainedModel, packing: Packing, attention: Attention) -> tuple[Layers, tuple[str, ...]]:
    """Use the layers written out here where they give what the model's own layers give; where they do not, say so."""
    if packing == "padded":
        return "transformers", ()
    batch = pack([_probe(model, length) for length in (9, 5, 5, 1)], lambda _: None)
    hidden_TD = run_written_out(model, batch, attention)
    if hidden_TD is None:
        return "transformers", ()
    if _are_equal(hidden_TD, run_packed(model, batch, attention)):
        return "written out", ()
    family = model.config.model_type
    return "transformers", (f"transformers' own layers, because the faster ones were not verified for '{family}'",)


@torch.no_grad()
def _packed_equals_alone(model: PreTrainedModel, plain: str, attention: Attention) -> bool:
    """Compare a packed stream with each of its sequences run alone by transformers' own attention."""
    features = [_probe(model, length) for length in (9, 5, 5, 1)]
    model.set_attn_implementation(PACKED)
    hidden_TD = run_packed(model, pack(features, lambda _: None), attention)
    model.set_attn_implementation(plain)
    alone_TD = torch.cat([run_padded(model, pack([one], lambda _: None), attention) for one in features])
    return _are_equal(hidden_TD, alone_TD)


def _are_equal(found: Tensor, expected: Tensor) -> bool:
    tolerance = 1e-4 if found.dtype == torch.float32 else 5e-2
    scale = expected.float().abs().max().clamp(min=1.0)
    return bool((found - expected).float().abs().max() <= tolerance * scale)


def require_bidirectional(
    model: PreTrainedModel, packing: Packing, name: str, attention: Attention = "bidirectional"
) -> None:
    """Raise `BackboneError` where bidirectional attention, in some of the layers, does not let a token see those behind it."""
    if packing == "padded" and len(set(causal_layers(attention, model))) > 1:
        raise BackboneError(
            f"Backbone '{name}' (family '{model.config.model_type}') runs padded, where all layers look in one direction. "
            "Use backbone.attention=causal or bidirectional."
        )
    if not _sees_ahead(model, packing, attention):
        raise BackboneError(
            f"Backbone '{name}' (family '{model.config.model_type}') cannot attend in both directions. "
            "Use backbone.attention=causal."
        )


def require_causal(model: PreTrainedModel, packing: Packing, name: str) -> None:
    """Raise `BackboneError` where causal attention lets a token see those behind it: the model is no decoder."""
    if _sees_ahead(model, packing, "causal"):
        raise BackboneError(
            f"Backbone '{name}' (family '{model.config.model_type}') is no causal decoder: its tokens see those behind "
            "them. Choose a decoder, such as one of the families gpt2, llama or qwen3."
        )


@torch.no_grad()
def require_plain_logits(model: PreTrainedModel, name: str) -> None:
    """Raise `BackboneError` where a language model's logits are not its hidden states times its output matrix.

    Some families scale or cap them, and training on the plain product would teach another model than the one that writes.
    """
    output = model.get_output_embeddings()
    weight = output.weight.clone()
    ids = torch.from_numpy(_probe(model, 8).input_ids.astype(np.int64))[None].to(model.device)
    try:
        # A cap does not show on the small logits of random weights.
        output.weight.mul_(LARGE_LOGIT / model(input_ids=ids, use_cache=False).logits.abs().max())
        logits = model(input_ids=ids, use_cache=False).logits
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        plain = hidden.shape[-1] == weight.shape[-1] and _are_equal(output(hidden), logits)
    finally:
        output.weight.copy_(weight)
    if not plain:
        raise BackboneError(
            f"Backbone '{name}' (family '{model.config.model_type}') makes its logits by more than one matrix, and cannot "
            "be trained to write texts here. Choose another family, such as gpt2, llama or qwen3."
        )


@torch.no_grad()
def _sees_ahead(model: PreTrainedModel, packing: Packing, attention: Attention) -> bool:
    """Change the last token of a sequence: does the first hidden state move?"""
    run = run_packed if packing == "packed" else run_padded
    first = _probe(model, 8)
    changed = Features(first.input_ids.copy())
    changed.input_ids[-1] = (changed.input_ids[-1] + 1) % model.get_input_embeddings().num_embeddings
    before, after = (run(model, pack([one], lambda _: None), attention)[0] for one in (first, changed))
    return bool(((before - after).abs() > 1e-6 * before.abs().max()).any())


def _probe(model: PreTrainedModel, length: int) -> Features:
    vocabulary = model.get_input_embeddings().num_embeddings
    place = np.arange(length, dtype=np.int32)
    return Features((7 * place * place + 3 * length) % vocabulary)
