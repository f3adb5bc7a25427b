"""GPT-2's forward pass (Radford and others, 2019) over a packed stream.

Letters: T tokens in the stream, D hidden width, H heads, d their width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import GPT2Model
from transformers.activations import NewGELUActivation
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.pytorch_utils import Conv1D

from vertebra.engine.attention import Options, attend
from vertebra.engine.blocks.functions import add_dropped, drop, layer_norm
from vertebra.engine.blocks.kernels import Kernels
from vertebra.engine.packing import PackedBatch


def is_plain(model: Any) -> bool:
    """Whether every part is the one that this pass stands for: an adapter inside, or another activation, is not."""
    return type(model) is GPT2Model and all(
        type(block) is GPT2Block
        and not hasattr(block, "crossattention")
        and all(type(norm) is nn.LayerNorm for norm in (block.ln_1, block.ln_2))
        and all(
            type(layer) is Conv1D for layer in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
        )
        and type(block.mlp.act) is NewGELUActivation
        for block in model.h
    )


def forward(model: Any, batch: PackedBatch, causal: tuple[bool, ...], kernels: Kernels) -> Tensor:
    """Return the hidden states (T, D) of the last layer, in the stream's order."""
    embedded_TD = model.wte(batch.input_ids_T) + model.wpe(batch.position_ids_T)
    x_TD = drop(embedded_TD, model.drop.p if model.training else 0.0)
    for block, looks_back in zip(model.h, causal, strict=True):
        x_TD = _attention(block.attn, layer_norm(x_TD, block.ln_1), x_TD, batch, looks_back, kernels)
        x_TD = _feed_forward(block.mlp, layer_norm(x_TD, block.ln_2), x_TD, kernels)
    return layer_norm(x_TD, model.ln_f)


def _attention(
    layer: Any, normed_TD: Tensor, x_TD: Tensor, batch: PackedBatch, causal: bool, kernels: Kernels
) -> Tensor:
    joined = kernels.linear(layer.c_attn, normed_TD).view(len(x_TD), 3, layer.num_heads, layer.head_dim)
    query_THd, key_THd, value_THd = joined.unbind(1)
    options = Options(layer.scaling, layer.attn_dropout.p if layer.training else 0.0, causal)
    seen_THd = attend(query_THd, key_THd, value_THd, batch, options)
    out_TD = kernels.linear(layer.c_proj, seen_THd.flatten(1))
    return add_dropped(x_TD, out_TD, layer.resid_dropout.p if layer.training else 0.0)


def _feed_forward(layer: Any, normed_TD: Tensor, x_TD: Tensor, kernels: Kernels) -> Tensor:
    out_TD = kernels.linear(layer.c_proj, kernels.gelu_linear(layer.c_fc, normed_TD))
    return add_dropped(x_TD, out_TD, layer.dropout.p if layer.training else 0.0)
