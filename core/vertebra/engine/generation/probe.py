"""Whether a model generates the same through pages as by its own forward pass is tried on the model itself.

Letters: N sequences, V vocabulary, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vertebra.engine.attention import PACKED, UnsupportedAttentionError
from vertebra.engine.generation.cache import PAGE, Slot
from vertebra.engine.generation.decoder import (
    Decoder,
    Forward,
    PackedDecoder,
    SerialDecoder,
    run_model,
    run_written_out,
)
from vertebra.engine.generation.layers import prepack_layers
from vertebra.engine.generation.replica import replica
from vertebra.engine.generation.stream import CachedStream
from vertebra.engine.prepacked import can_prepack
from vertebra.engine.probes import require_known_layers, require_static_rotation
from vertebra.errors import BackboneError

MakeDecoder = Callable[[], Decoder]
"""Each scheduler has a cache of its own."""
FAILURES = (UnsupportedAttentionError, ValueError, TypeError, KeyError, RuntimeError, AttributeError)
"""What a model raises that cannot be run as it is tried."""


def choose_decoder(
    model: PreTrainedModel, dtype: torch.dtype | None, context: int
) -> tuple[MakeDecoder, tuple[str, ...]]:
    """Return what makes decoders of a copy of the model that shares its weights, and notes on what was not fast.

    Raises `BackboneError` where the model has no head for the next token.
    """
    if model.get_output_embeddings() is None:
        raise BackboneError(
            f"A {type(model).__name__} gives hidden states, not the next token: load it with AutoModelForCausalLM."
        )
    copied = replica(model, dtype)
    wanted = _plain_logits(copied, context)
    written_out = run_written_out(model, copied)
    if written_out is not None and _is_equal(written_out, copied, wanted, context):
        return lambda: PackedDecoder(written_out, copied.device), ()
    fast, notes = _prepacked(copied)
    reason = _why_not_packed(fast, wanted, context)
    if reason and fast is not copied and not _computes(fast, wanted, context):
        fast, notes = copied, _plain_layers(copied)  # a module reads a matrix that it should only multiply with
        reason = _why_not_packed(fast, wanted, context)
    if not reason:
        return lambda: PackedDecoder(run_model(fast), fast.device), notes
    note = f"one request at a time, because packing was not verified for '{copied.config.model_type}' ({reason})"
    return lambda: SerialDecoder(fast), (*notes, note)


def _prepacked(model: PreTrainedModel) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Return a copy with prepacked layers; on the CPU where there are none, the model itself and a note."""
    if model.device.type != "cpu":
        return model, ()
    if not can_prepack(model.dtype):
        return model, _plain_layers(model)
    copied = replica(model, None)
    prepack_layers(copied)
    return copied, ()


def _plain_layers(model: PreTrainedModel) -> tuple[str, ...]:
    return (f"plain linear layers, because prepacked ones do not work here in {model.dtype}",)


def _why_not_packed(model: PreTrainedModel, wanted: Sequence[Tensor], context: int) -> str:
    """Set a model's attention to packed where the trial then gives the wanted logits; else leave it, and say why."""
    plain = model.config._attn_implementation
    try:
        require_static_rotation(model.config)
        require_known_layers(model.config)
        if not model._can_set_attn_implementation():
            raise UnsupportedAttentionError("its attention cannot be replaced")
        model.set_attn_implementation(PACKED)
        _require_equal(run_model(model), model, wanted, context)
    except FAILURES as error:
        if model.config._attn_implementation != plain:
            model.set_attn_implementation(plain)
        return str(error).partition("\n")[0] or type(error).__name__
    return ""


def _computes(model: PreTrainedModel, wanted: Sequence[Tensor], context: int) -> bool:
    """Whether a model's own forward pass gives the wanted logits."""
    try:
        for found_NV, wanted_NV in zip(_plain_logits(model, context), wanted, strict=True):
            _require_alike(found_NV, wanted_NV)
    except FAILURES:
        return False
    return True


def _trial(context: int, vocabulary: int) -> Iterator[list[Slot]]:
    """Yield the slots of three steps: two prompts, one more that shares a page, and one token each."""
    long, short = min(PAGE + 7, context - 2), min(5, context - 2)
    slots = [Slot([(7 * n * n + 3 * length) % vocabulary for n in range(length)]) for length in (long, short)]
    yield slots
    slots.append(Slot([*slots[0].tokens[: PAGE + 1], 1]))
    for step in range(2):
        for slot in slots[: 2 + step]:
            slot.tokens.append((5 * len(slot.tokens)) % vocabulary)
        yield slots


@torch.inference_mode()
def _plain_logits(model: PreTrainedModel, context: int) -> list[Tensor]:
    """Return what the model's own forward pass gives in each step of the trial, (N, V)."""

    def alone(slot: Slot) -> Tensor:
        ids = torch.tensor([slot.tokens], device=model.device)
        logits_1TV: Tensor = model(input_ids=ids, use_cache=False).logits
        return logits_1TV[:, -1]

    vocabulary = model.get_input_embeddings().num_embeddings
    return [torch.cat([alone(slot) for slot in slots]) for slots in _trial(context, vocabulary)]


def _is_equal(forward: Forward, model: PreTrainedModel, wanted: Sequence[Tensor], context: int) -> bool:
    """Whether the trial through layers written out, and pages, gives the wanted logits."""
    try:
        require_static_rotation(model.config)
        require_known_layers(model.config)
        _require_equal(forward, model, wanted, context)
    except FAILURES:
        return False
    return True


@torch.inference_mode()
def _require_equal(forward: Forward, model: PreTrainedModel, wanted: Sequence[Tensor], context: int) -> None:
    """Raise `UnsupportedAttentionError` where the trial through pages does not give the wanted logits."""
    seen: list[CachedStream] = []

    def watched(stream: CachedStream) -> Tensor:
        seen.append(stream)
        return forward(stream)

    decoder = PackedDecoder(watched, model.device)
    vocabulary = model.get_input_embeddings().num_embeddings
    for slots, wanted_NV in zip(_trial(context, vocabulary), wanted, strict=True):
        _require_alike(decoder.logits(slots), wanted_NV)
    _require_told_windows(model.config.get_text_config(), seen[-1].windows)


def _require_alike(found_NV: Tensor, wanted_NV: Tensor) -> None:
    tolerance = 1e-4 if found_NV.dtype == torch.float32 else 5e-2
    scale = wanted_NV.float().abs().max().clamp(min=1.0)
    if not (found_NV.float() - wanted_NV.float()).abs().max() <= tolerance * scale:
        raise UnsupportedAttentionError("its logits differ when they come from cached pages")


def _require_told_windows(config: Any, windows: dict[int, int | None]) -> None:
    """Raise where a layer looks back less far than the whole text without asking for it: short trials do not show it."""
    types = getattr(config, "layer_types", None) or []
    for layer, window in windows.items():
        if layer < len(types) and types[layer] == "sliding_attention" and window is None:
            raise UnsupportedAttentionError("its layers do not say how far they look back")
