"""Which of the faster ways of computing are taken here, and why the others are not: asked of what chooses them in a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from vertebra.config.schema import BackboneConfig
from vertebra.engine.allocator import keep_large_buffers
from vertebra.engine.attention_varlen import why_not
from vertebra.engine.backbone import Backbone
from vertebra.engine.devices import native_bf16
from vertebra.engine.generation.generator import Generator
from vertebra.engine.loading import load_backbone
from vertebra.engine.prepacked import can_prepack
from vertebra.engine.products import prefers_onednn
from vertebra.engine.writer import as_loaded
from vertebra.errors import BackboneError
from vertebra.host.manager import Host


@dataclass(frozen=True)
class FastPath:
    """One of the faster ways."""

    name: str
    on: bool
    reason: str
    """What it does where it is on; where it is not, why."""


def find_fast_paths(config: BackboneConfig, host: Host) -> Iterator[FastPath]:
    """Yield what holds for a backbone on this machine; `BackboneError` where it cannot be loaded."""
    on_gpu = torch.cuda.is_available()
    native = native_bf16(on_gpu)
    hardware = "the GPU" if on_gpu else "this processor"
    yield FastPath(
        "bf16",
        native,
        f"{hardware} multiplies bf16 matrices itself; gpu.precision=auto trains in bf16"
        if native
        else f"{hardware} has no instructions for bf16 matrices; gpu.precision=auto trains in fp32",
    )
    yield from _allocator(on_gpu)
    yield from _fp32_products(on_gpu)
    backbone, cannot_write = _load(config, host)
    yield _packing(backbone)
    yield _written_out(backbone, on_gpu)
    yield _prepacked(backbone, on_gpu)
    yield _varlen(backbone, on_gpu, native)
    yield _recorded(backbone, on_gpu)
    yield _generation(backbone, cannot_write)


def _load(config: BackboneConfig, host: Host) -> tuple[Backbone, str]:
    """Load the backbone with its language-model head; without it where it has none, and then say why."""
    try:
        return load_backbone(config, host, language_model=True), ""
    except BackboneError as error:
        return load_backbone(config, host), str(error)


def _allocator(on_gpu: bool) -> Iterator[FastPath]:
    if on_gpu:
        return
    kept = keep_large_buffers()
    reason = "large buffers are kept from step to step" if kept else "only glibc's can be told to keep large buffers"
    yield FastPath("allocator", kept, reason)


def _fp32_products(on_gpu: bool) -> Iterator[FastPath]:
    if on_gpu:
        return
    chosen = prefers_onednn()
    reason = (
        "oneDNN multiplies them, twice as fast here as MKL"
        if chosen
        else "torch multiplies them: no AMD processor with MKL"
    )
    yield FastPath("fp32 products", chosen, reason)


def _packing(backbone: Backbone) -> FastPath:
    packed = backbone.info.packing == "packed"
    said = next((note for note in backbone.info.notes if note.startswith("padded batches")), "backbone.packing=padded")
    return FastPath("packing", packed, "batches are one stream without padding" if packed else said)


def _written_out(backbone: Backbone, on_gpu: bool) -> FastPath:
    name, family = "fused layers", backbone.model.config.model_type
    if on_gpu:
        return FastPath(name, False, "they are for the CPU; a GPU runs transformers' own layers")
    if backbone.info.layers == "written out":
        return FastPath(name, True, f"layers of the family '{family}' written out for the CPU")
    said = next((note for note in backbone.info.notes if note.startswith("transformers' own layers")), None)
    return FastPath(name, False, said or f"there are none for the family '{family}' as this model is built")


def _prepacked(backbone: Backbone, on_gpu: bool) -> FastPath:
    name = "prepacked weights"
    if on_gpu:
        return FastPath(name, False, "they are for the CPU")
    if not can_prepack(backbone.model.dtype):
        return FastPath(name, False, f"oneDNN's operations are not in torch {torch.__version__}, or differ there")
    if backbone.info.layers != "written out":
        return FastPath(name, False, "evaluation takes them in the fused layers alone")
    return FastPath(name, True, "evaluation and generation multiply with weights in oneDNN's layout")


def _varlen(backbone: Backbone, on_gpu: bool, native: bool) -> FastPath:
    name = "varlen attention"
    if not on_gpu:
        return FastPath(name, False, "it needs a GPU, and torch finds none")
    if backbone.info.packing == "padded":
        return FastPath(name, False, "it is for packed batches")
    reason = why_not(backbone.model.config, torch.bfloat16 if native else torch.float32)
    return FastPath(name, reason is None, reason or "attention over a packed batch is one kernel")


def _recorded(backbone: Backbone, on_gpu: bool) -> FastPath:
    name = "recorded passes"
    if not on_gpu:
        return FastPath(name, False, "it needs a GPU, and torch finds none")
    if backbone.info.packing == "padded":
        return FastPath(name, False, "they are for packed batches")
    return FastPath(name, True, "short training passes are launched as a whole (CUDA graphs)")


def _generation(backbone: Backbone, cannot_write: str) -> FastPath:
    name = "paged generation"
    if backbone.language_model is None:
        return FastPath(name, False, cannot_write)
    notes = Generator(as_loaded(backbone), backbone.tokenizer).notes
    return FastPath(
        name, not notes, "; ".join(notes) or "many texts are written at once, over pages of keys and values"
    )
