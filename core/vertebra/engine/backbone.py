"""The shared backbone: a causal decoder that turns a packed batch into hidden states.

Letters: T tokens in the packed stream, N sequences, P positions that a head reads, D hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from vertebra.engine.attention_varlen import why_not
from vertebra.engine.blocks.kernels import Kernels, PlainKernels, PrepackedKernels
from vertebra.engine.blocks.passes import find_pass
from vertebra.engine.cache_name import cache_name
from vertebra.engine.directions import Attention
from vertebra.engine.packing import PackedBatch, rounded
from vertebra.engine.prepacked import can_prepack
from vertebra.engine.recorded_passes import CudaRecorder, RecordedPasses, Recorder
from vertebra.errors import BackboneError

if TYPE_CHECKING:
    from vertebra.engine.adapters.adapter import Adapter
    from vertebra.engine.adapters.by_peft import Prefix


def rounded_to(n_rows: int) -> int:
    """Return what the rows of a matrix are rounded up to a multiple of.

    oneDNN makes a program for each size that it meets, and keeps up to a thousand of them: with sizes as they come that is
    half a gigabyte in the end. Rounding costs a small batch more than a large one.
    """
    return 16 if n_rows < 1024 else 64


Packing = Literal["packed", "padded"]
Layers = Literal["written out", "transformers"]


@dataclass(frozen=True)
class BackboneInfo:
    """What a reader of the results must know of a backbone."""

    name: str
    parameters: int
    init: Literal["pretrained", "random"]
    attention: Attention
    packing: Packing
    layers: Layers
    """Whose code computes them on the CPU."""
    context: int
    fingerprint: str
    """A hash of configuration, tokenizer and, where they are pretrained, weights."""
    notes: tuple[str, ...]
    version: str | None = None
    """Of a backbone that comes with a package."""


class Backbone(nn.Module):
    """A causal decoder, read through packed batches; with its language-model head beside it where a task needs that."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        info: BackboneInfo,
        language_model: PreTrainedModel | None = None,
        own_attention: str | None = None,
    ) -> None:
        """`language_model` is the causal language model that `model` is the inside of; `own_attention` is the name of the

        attention that transformers gave it.
        """
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.info = info
        self.own_attention = own_attention
        self.adapter: Adapter | None = None
        self.prefix: Prefix | None = None
        self.state: nn.Module | None = None
        """Buffers of the adapter that are part of a checkpoint."""
        self.frozen = False
        """Whether nothing of it is ever trained: it then stays in evaluation mode, and its passes record no gradients."""
        self._kernels: Kernels | None = None
        self._recorded: RecordedPasses | None = None
        # No child of this module: its inside is one already, and its output matrix is part of the head that uses it.
        self._language_model = (language_model,)

    @property
    def language_model(self) -> PreTrainedModel | None:
        """The causal language model around `model`, over the same weights; None where it was loaded without."""
        return self._language_model[0]

    def untie(self) -> None:
        """Give the language model an output matrix of its own, equal to the embedding that was both."""
        language_model = self.language_model
        if language_model is None:
            return
        output = language_model.get_output_embeddings()
        if output.weight is language_model.get_input_embeddings().weight:
            output.weight = nn.Parameter(output.weight.detach().clone())
            language_model.config.get_text_config().tie_word_embeddings = False
            language_model.all_tied_weights_keys = {}

    @property
    def kernels(self) -> Kernels:
        """What multiplies the matrices of layers written out, here and now."""
        return self._kernels or PlainKernels(_dtype(self.model))

    @property
    def width(self) -> int:
        """D, the width of the hidden states."""
        return int(self.model.config.hidden_size)

    def train(self, mode: bool = True) -> Self:
        """Set what drops and what does not; a frozen backbone stays as it is."""
        return super().train(mode and not self.frozen)

    def forward(self, batch: PackedBatch) -> Tensor:
        """Return the hidden states (P, D) of the last layer at the batch's positions."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self._read(batch)

    def _read(self, batch: PackedBatch) -> Tensor:
        attention = batch.attention or self.info.attention
        if self.info.packing == "padded":
            return run_padded(self.model, batch, attention, self.prefix)[batch.positions_P]
        hidden_TD = self._recorded.hidden(batch) if self._recorded is not None else None
        if hidden_TD is not None:
            return hidden_TD[batch.positions_P]
        if self.info.layers == "written out" and batch.input_ids_T.device.type == "cpu":
            hidden_PD = run_written_out(self.model, batch, attention, self._kernels, batch.positions_P)
            if hidden_PD is not None:
                return hidden_PD
        return run_packed(self.model, batch, attention)[batch.positions_P]

    @contextmanager
    def recorded(
        self, dtype: torch.dtype | None, tell: Callable[[str], None], recorder: Recorder | None = None
    ) -> Iterator[None]:
        """Record training passes in `dtype` (by default the weights' own) on a GPU, and play them again (CUDA graphs).

        Meanwhile nothing but the values of the weights may change. Where activations are computed anew, passes are plain.
        `tell` gets a line if recording fails; `recorder` stands in for CUDA's.
        """
        anew = any(getattr(one, "gradient_checkpointing", False) for one in self.model.modules())
        plain = self.info.packing == "padded" or self.frozen or anew
        if not plain and (recorder or self.model.device.type == "cuda"):
            self._recorded = RecordedPasses(
                self.model,
                lambda batch: run_packed(self.model, batch, batch.attention or self.info.attention),
                recorder or CudaRecorder(),
                tell,
                one_kernel=why_not(self.model.config, dtype or self.model.dtype) is None,
            )
        try:
            yield
        finally:
            self._recorded = None

    @contextmanager
    def prepacked(self, dtype: torch.dtype | None = None) -> Iterator[None]:
        """Lay the weights out for inference on the CPU, in `dtype`, by default their own; meanwhile they must not change.

        That is a second copy of them, which is there as long as the context lasts.
        """
        dtype = dtype or self.model.dtype
        on_cpu = self.model.device.type == "cpu"
        if self.info.layers == "written out" and on_cpu and can_prepack(dtype):
            self._kernels = PrepackedKernels(dtype)
        try:
            yield
        finally:
            self._kernels = None


@torch.no_grad()
def turn_for_inference(backbone: Backbone) -> None:
    """Store GPT-2's matrices on the CPU with outputs first, their shapes unchanged: so one is multiplied without being turned.

    It is done in place, a matrix at a time. What is trained afterwards is correct, and no faster.
    """
    for module in backbone.model.modules():
        if isinstance(module, Conv1D) and module.weight.device.type == "cpu" and module.weight.is_contiguous():
            inputs, outputs = module.weight.shape
            same_memory = module.weight.data.view(outputs, inputs)
            same_memory.copy_(module.weight.data.T.contiguous())
            module.weight.data = same_memory.T


def causal_layers(attention: Attention, model: PreTrainedModel) -> tuple[bool, ...]:
    """Return for each layer, the lowest first, whether its tokens see only those before them.

    Raises `BackboneError` for a list that does not have as many entries as the model has layers.
    """
    layers = int(model.config.num_hidden_layers)
    if isinstance(attention, str):
        return (attention == "causal",) * layers
    if isinstance(attention, tuple):
        if len(attention) != layers:
            raise BackboneError(f"backbone.attention lists {len(attention)} layers; the model has {layers}.")
        return tuple(one == "causal" for one in attention)
    causal = layers - round(attention * layers)
    return (True,) * causal + (False,) * (layers - causal)


def run_written_out(
    model: PreTrainedModel,
    batch: PackedBatch,
    attention: Attention,
    kernels: Kernels | None = None,
    positions_P: Tensor | None = None,
) -> Tensor | None:
    """Run the stream through layers written out for speed: (P, D), by default for all positions.

    None where these layers do not stand for the model's own.
    """
    forward = find_pass(model)
    if forward is None:
        return None
    kernels = kernels or PlainKernels(_dtype(model))
    causal = causal_layers(attention, model)
    if positions_P is None:
        positions_P = torch.arange(batch.n_tokens)
    n_positions = len(positions_P)
    if missing := -n_positions % rounded_to(n_positions):
        positions_P = torch.cat([positions_P, positions_P[-1:].expand(missing)])
    batch = rounded(batch, rounded_to(batch.n_tokens))
    with torch.autocast("cpu", enabled=False):
        return forward(model, batch, causal, kernels, positions_P)[:n_positions]


def _dtype(model: PreTrainedModel) -> torch.dtype:
    """Return the type in which matrices are multiplied here and now."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else model.dtype


def run_packed(model: PreTrainedModel, batch: PackedBatch, attention: Attention) -> Tensor:
    """Run the stream as one row through a model whose attention keeps sequences apart: (T, D)."""
    # With token ids some families look for padding among them, and wait for a GPU to do so.
    embeddings_TD = model.get_input_embeddings()(batch.input_ids_T)
    hidden_1TD: Tensor = model(
        inputs_embeds=embeddings_TD.unsqueeze(0),
        position_ids=batch.position_ids_T.unsqueeze(0),
        use_cache=False,
        packed=batch,
        causal=causal_layers(attention, model),
    ).last_hidden_state
    return hidden_1TD.squeeze(0)


def run_padded(
    model: PreTrainedModel, batch: PackedBatch, attention: Attention, prefix: Prefix | None = None
) -> Tensor:
    """Run one row for each sequence, padded on the right, and take the padding out again: (T, D).

    Every sequence attends to the keys and values of `prefix`, too.
    """
    longest = max(batch.lengths)
    real_NL = torch.arange(longest) < torch.tensor(batch.lengths)[:, None]
    real_NL = real_NL.to(batch.input_ids_T.device)
    ids_NL = torch.zeros_like(real_NL, dtype=torch.long)
    ids_NL[real_NL] = batch.input_ids_T
    causal = set(causal_layers(attention, model))
    assert len(causal) == 1, "transformers' own attention is the same in all layers"
    kwargs: dict[str, Any] = {} if causal == {True} else {"is_causal": False}
    seen_NL = real_NL.long()
    if prefix is not None:
        kwargs[cache_name(model)] = prefix(len(ids_NL))
        seen_NL = torch.cat([seen_NL.new_ones(len(ids_NL), prefix.tokens), seen_NL], dim=1)
    hidden_NLD: Tensor = model(input_ids=ids_NL, attention_mask=seen_NL, use_cache=False, **kwargs).last_hidden_state
    return hidden_NLD[real_NL]
