"""Sequences of different tasks, each with a LoRA of its own or none, in one pass of one backbone.

The base layers run on the whole stream; to the rows of each task's segment is added what its own low-rank matrices make of
them. That is what each task computes alone, in training and in evaluation. It holds for lora and rslora, whose part is a
sum; what dora, adalora, ia3 and the others learn changes the base layer's own product, so their tasks run one by one.

Letters: T tokens in the stream, P positions that heads read, D hidden width, I and O features going in and out of a layer, R
rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vertebra.engine.adapters.adapter import whole_model
from vertebra.engine.adapters.by_peft import PeftAdapter
from vertebra.engine.backbone import Backbone, run_packed, run_padded, run_written_out
from vertebra.engine.blocks.additions import Addition, adding, listen
from vertebra.engine.blocks.functions import Layer, gelu
from vertebra.engine.blocks.kernels import Kernels
from vertebra.engine.blocks.low_rank import LowRank, find_low_rank
from vertebra.engine.mixed_batch import MixedBatch
from vertebra.errors import BackboneError

MIXABLE = ("lora", "rslora", "frozen")
"""The adapters whose tasks can share a pass."""


class LoRA:
    """The low-rank matrices of one task, by the names of the layers that they belong to."""

    def __init__(self, layers: Mapping[str, LowRank]) -> None:
        """Take them by the layers' names in the model inside the backbone, such as `h.0.attn.c_attn`."""
        self.layers = dict(layers)

    @classmethod
    def of(cls, backbone: Backbone) -> LoRA:
        """Return those of a backbone that `adapt` has given a lora or rslora: its very parameters, not copies.

        `BackboneError` for any other adapter.
        """
        adapter = backbone.adapter
        if not isinstance(adapter, PeftAdapter):
            raise BackboneError("Only lora, rslora and frozen backbones can be mixed in one pass.")
        from peft.tuners.tuners_utils import BaseTunerLayer  # slow to import, and here it has been

        named = {id(module): name for name, module in backbone.model.named_modules()}
        found = {}
        for module in whole_model(backbone).modules():
            if not isinstance(module, BaseTunerLayer):
                continue
            low_rank = find_low_rank(module)
            if low_rank is None or id(module) not in named:
                raise BackboneError("Only plain LoRA inside the backbone's layers can be mixed in one pass.")
            found[named[id(module)]] = low_rank[1]
        if not found:
            raise BackboneError("Only lora, rslora and frozen backbones can be mixed in one pass.")
        return cls(found)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the matrices."""
        for one in self.layers.values():
            yield from (one.down_RI, one.up_OR)


class MixedBackbone(nn.Module):
    """A plain backbone, and the LoRAs of the tasks that share it."""

    def __init__(self, backbone: Backbone, adapters: Mapping[str, LoRA | None]) -> None:
        """`backbone` has no adapter inside; `adapters` has one for each name of a segment, None for the backbone as it is.

        One LoRA may stand under several names: they share it. Its parameters are not this module's. `BackboneError` where
        a LoRA names a layer that the backbone does not have, or where activations are computed twice, which would
        need the batch again when it is gone.
        """
        super().__init__()
        self.backbone = backbone
        self.adapters = dict(adapters)
        layers = dict(backbone.model.named_modules())
        missing = [name for one in self.adapters.values() if one is not None for name in one.layers.keys() - layers]
        if missing:
            raise BackboneError(f"The LoRA is for another model: this backbone has no layer '{missing[0]}'.")
        if any(vars(module).get("gradient_checkpointing") for module in layers.values()):
            raise BackboneError(
                "Tasks cannot share a pass with backbone.gradient_checkpointing=true: set it to false, or run one by one."
            )
        self._layers = layers
        for name in {name for one in self.adapters.values() if one is not None for name in one.layers}:
            listen(layers[name])

    def forward(self, batch: MixedBatch) -> Tensor:
        """Return the hidden states (P, D) at the stream's positions; `MixedBatch.split` gives each task its own."""
        backbone, stream = self.backbone, batch.stream
        model, attention = backbone.model, stream.attention or backbone.info.attention
        if backbone.info.packing == "padded":
            longest = max(stream.lengths)
            rows = {
                one.name: slice(one.sequences.start * longest, one.sequences.stop * longest) for one in batch.segments
            }
            with adding(self._additions(rows)):
                return run_padded(model, stream, attention)[stream.positions_P]
        tokens = {one.name: one.tokens for one in batch.segments}
        if backbone.info.layers == "written out" and stream.input_ids_T.device.type == "cpu":
            positions = {one.name: one.positions for one in batch.segments}
            added = self._by_layer(tokens), self._by_layer(positions)
            kernels = MixedKernels(backbone.kernels, *added, training=model.training)
            hidden_PD = run_written_out(model, stream, attention, kernels, stream.positions_P)
            if hidden_PD is not None:
                return hidden_PD
        with adding(self._additions(tokens)):
            return run_packed(model, stream, attention)[stream.positions_P]

    def _by_layer(self, rows: Mapping[str, slice]) -> Added:
        """Return for each layer what is added to which rows; neighbours with the same LoRA are one segment."""
        joined: list[tuple[LoRA, slice]] = []
        for name, own in rows.items():
            adapter = self.adapters[name]
            if adapter is None:
                continue
            if joined and joined[-1][0] is adapter and joined[-1][1].stop == own.start:
                joined[-1] = adapter, slice(joined[-1][1].start, own.stop)
            else:
                joined.append((adapter, own))
        found: Added = {}
        for adapter, own in joined:
            for name, low_rank in adapter.layers.items():
                found.setdefault(self._layers[name], []).append((own, low_rank))
        return found

    def _additions(self, rows: Mapping[str, slice]) -> dict[nn.Module, Addition]:
        """Return what transformers' own layers add in one pass."""
        training = self.backbone.model.training
        return {layer: partial(_add_to_output, parts, training) for layer, parts in self._by_layer(rows).items()}


Added = dict[Any, list[tuple[slice, LowRank]]]
"""For a layer, which rows get what added to its output."""


class MixedKernels:
    """Multiply as other kernels do, and add to each segment's rows what its LoRA makes of them."""

    def __init__(self, base: Kernels, tokens: Added, positions: Added, *, training: bool) -> None:
        self._base, self._added, self._positions, self._training = base, tokens, positions, training
        self.dtype = base.dtype

    def linear(self, layer: Layer, x_TI: Tensor) -> Tensor:
        """Return the layer's output (T, O)."""
        x_TI = x_TI.to(self.dtype)
        out_TO = self._base.linear(layer, x_TI)
        return add_to_rows(out_TO, x_TI, self._added.get(layer, ()), training=self._training)

    def gelu_linear(self, layer: Layer, x_TI: Tensor) -> Tensor:
        """Return GELU, in its tanh form, of the layer's output (T, O)."""
        if layer in self._added:
            return gelu(self.linear(layer, x_TI))
        return self._base.gelu_linear(layer, x_TI)

    def at_positions(self) -> MixedKernels:
        """Return the kernels for the rows of the positions that are read."""
        return MixedKernels(self._base, self._positions, self._positions, training=self._training)


def add_to_rows(out_TO: Tensor, x_TI: Tensor, parts: Any, *, training: bool) -> Tensor:
    """Return a layer's output with what is added to some of its rows, in ascending order; rows of no part stay."""
    if not parts:
        return out_TO
    if not torch.is_grad_enabled():
        for rows, low_rank in parts:
            low_rank.add_to(out_TO[rows], x_TI[rows], training=training)
        return out_TO
    pieces, done = [], 0
    for rows, low_rank in parts:
        pieces += [out_TO[done : rows.start], low_rank.add_to(out_TO[rows].clone(), x_TI[rows], training=training)]
        done = rows.stop
    return torch.cat([*pieces, out_TO[done:]])


def _add_to_output(parts: Any, training: bool, output: Tensor, x: Tensor) -> Tensor:
    rows = add_to_rows(output.flatten(0, -2), x.flatten(0, -2), parts, training=training)
    return rows.view_as(output)
