"""Which models have a forward pass written out here, and when it may be taken."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from transformers import PreTrainedModel

from vertebra.engine.blocks import gpt2, llama
from vertebra.engine.blocks.additions import has_other_hooks
from vertebra.engine.blocks.kernels import Kernels
from vertebra.engine.blocks.low_rank import LowRankKernels, has_low_rank
from vertebra.engine.generation.stream import CachedStream
from vertebra.engine.packing import PackedBatch

Pass = Callable[[PreTrainedModel, PackedBatch | CachedStream, tuple[bool, ...], Kernels, Tensor], Tensor]


def find_pass(model: PreTrainedModel) -> Pass | None:
    """Return the pass that stands for this model's own, or None; asked each time, because plugins may change a model.

    A pass calls no submodule of a layer, so it is not taken where one does more than its class says. LoRA is added to it.
    """
    if any(map(_does_more, model.modules())):
        return None
    found: Pass | None = next((family.forward for family in (gpt2, llama) if family.is_plain(model)), None)
    if found is not None and any(map(has_low_rank, model.modules())):
        return partial(_with_low_rank, found)
    return found


def _with_low_rank(
    plain: Pass,
    model: PreTrainedModel,
    batch: PackedBatch | CachedStream,
    causal: tuple[bool, ...],
    kernels: Kernels,
    positions_P: Tensor,
) -> Tensor:
    return plain(model, batch, causal, LowRankKernels(kernels, training=model.training), positions_P)


def _does_more(module: nn.Module) -> bool:
    """Whether hooks listen to a module, its forward pass was exchanged, or it computes its activations twice."""
    own = vars(module)
    return bool(
        has_other_hooks(module)
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in own
        or own.get("gradient_checkpointing")
    )
