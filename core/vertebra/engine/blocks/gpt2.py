"""GPT-2's forward pass (Radford and others, 2019) over a packed stream.

Letters: T tokens in the stream, P positions that are read, D hidden width, O inner width, H heads, d their width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import GPT2Model
from transformers.activations import NewGELUActivation
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.pytorch_utils import Conv1D

from vertebra.engine.attention import attend_joined
from vertebra.engine.attention_options import Options
from vertebra.engine.blocks.functions import add_dropped, drop, layer_norm
from vertebra.engine.blocks.kernels import Kernels
from vertebra.engine.blocks.low_rank import without_low_rank
from vertebra.engine.generation.stream import CachedStream
from vertebra.engine.packing import PackedBatch


def is_plain(model: Any) -> bool:
    """Whether every part is what this pass stands for: an adapter other than LoRA, or another activation, is not."""
    return type(model) is GPT2Model and all(
        type(block) is GPT2Block
        and not hasattr(block, "crossattention")
        and all(type(norm) is nn.LayerNorm for norm in (block.ln_1, block.ln_2))
        and all(
            type(without_low_rank(layer)) is Conv1D
            for layer in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
        )
        and type(block.mlp.act) is NewGELUActivation
        for block in model.h
    )


def forward(
    model: Any, batch: PackedBatch | CachedStream, causal: tuple[bool, ...], kernels: Kernels, positions_P: Tensor
) -> Tensor:
    """Return the hidden states (P, D) of the last layer at these positions of the stream."""
    embedded_TD = model.wte(batch.input_ids_T) + model.wpe(batch.position_ids_T)
    x_TD = drop(embedded_TD, model.drop.p if model.training else 0.0)
    for block, looks_back in zip(model.h, causal, strict=True):
        seen_TD = _attend(block.attn, layer_norm(x_TD, block.ln_1), batch, looks_back, kernels)
        if block is model.h[-1]:  # nobody reads what else would follow
            x_TD, seen_TD = x_TD.index_select(0, positions_P), seen_TD.index_select(0, positions_P)
            kernels = kernels.at_positions()
        x_TD = _add(x_TD, kernels.linear(block.attn.c_proj, seen_TD), block.attn.resid_dropout)
        inner_TO = kernels.gelu_linear(block.mlp.c_fc, layer_norm(x_TD, block.ln_2))
        x_TD = _add(x_TD, kernels.linear(block.mlp.c_proj, inner_TO), block.mlp.dropout)
    return layer_norm(x_TD, model.ln_f)


def _attend(layer: Any, normed_TD: Tensor, batch: PackedBatch | CachedStream, causal: bool, kernels: Kernels) -> Tensor:
    joined_T3Hd = kernels.linear(layer.c_attn, normed_TD).view(len(normed_TD), 3, layer.num_heads, layer.head_dim)
    options = Options(layer.scaling, layer.attn_dropout.p if layer.training else 0.0, causal)
    return attend_joined(joined_T3Hd, batch, options, layer.layer_idx).flatten(1)


def _add(x_TD: Tensor, branch_TD: Tensor, dropout: nn.Dropout) -> Tensor:
    return add_dropped(x_TD, branch_TD, dropout.p if dropout.training else 0.0)
