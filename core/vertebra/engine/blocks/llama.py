"""The forward pass of Llama (Touvron and others, 2023) and of the families that differ from it by a norm or a window.

Letters: T tokens in the stream, P positions that are read, D hidden width, H query heads, G key-value heads, d their width.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from transformers import LlamaModel, MistralModel, Qwen2Model, Qwen3Model
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralAttention, MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention, Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3RMSNorm

from vertebra.engine.attention import attend
from vertebra.engine.attention_options import Options
from vertebra.engine.blocks.functions import gated_silu, rms_norm, rotate
from vertebra.engine.blocks.kernels import Kernels
from vertebra.engine.blocks.low_rank import without_low_rank
from vertebra.engine.generation.stream import CachedStream
from vertebra.engine.packing import PackedBatch

_FAMILIES = {
    LlamaModel: (LlamaAttention, LlamaRMSNorm),
    MistralModel: (MistralAttention, MistralRMSNorm),
    Qwen2Model: (Qwen2Attention, Qwen2RMSNorm),
    Qwen3Model: (Qwen3Attention, Qwen3RMSNorm),
}
_OF_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_OF_FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")


def is_plain(model: Any) -> bool:
    """Whether every part is what this pass stands for: an adapter other than LoRA, or another activation, is not."""
    if type(model) not in _FAMILIES:
        return False
    attention, norm = _FAMILIES[type(model)]
    return all(
        type(layer.self_attn) is attention
        and type(layer.input_layernorm) is type(layer.post_attention_layernorm) is norm
        and all(
            type(without_low_rank(getattr(part, name))) is nn.Linear
            for part, names in ((layer.self_attn, _OF_ATTENTION), (layer.mlp, _OF_FEED_FORWARD))
            for name in names
        )
        and type(layer.mlp.act_fn) is SiLUActivation
        for layer in model.layers
    )


def forward(
    model: Any, batch: PackedBatch | CachedStream, causal: tuple[bool, ...], kernels: Kernels, positions_P: Tensor
) -> Tensor:
    """Return the hidden states (P, D) of the last layer at these positions of the stream."""
    x_TD = model.embed_tokens(batch.input_ids_T)
    cos_1Td, sin_1Td = model.rotary_emb(x_TD, batch.position_ids_T.unsqueeze(0))
    angles = cos_1Td.squeeze(0), sin_1Td.squeeze(0)
    for layer, looks_back in zip(model.layers, causal, strict=True):
        seen_TD = _attend(layer.self_attn, _norm(layer.input_layernorm, x_TD), batch, angles, looks_back, kernels)
        if layer is model.layers[-1]:  # nobody reads what else would follow
            x_TD, seen_TD = x_TD.index_select(0, positions_P), seen_TD.index_select(0, positions_P)
            kernels = kernels.at_positions()
        x_TD = x_TD + kernels.linear(layer.self_attn.o_proj, seen_TD)
        x_TD = x_TD + _feed_forward(layer.mlp, _norm(layer.post_attention_layernorm, x_TD), kernels)
    return _norm(model.norm, x_TD)


def _norm(norm: Any, x: Tensor) -> Tensor:
    return rms_norm(x, norm.weight, norm.variance_epsilon)


def _attend(
    layer: Any,
    normed_TD: Tensor,
    batch: PackedBatch | CachedStream,
    angles: tuple[Tensor, Tensor],
    causal: bool,
    kernels: Kernels,
) -> Tensor:
    query_THd, key_TGd, value_TGd = (
        kernels.linear(projection, normed_TD).view(len(normed_TD), -1, layer.head_dim)
        for projection in (layer.q_proj, layer.k_proj, layer.v_proj)
    )
    if hasattr(layer, "q_norm"):
        query_THd, key_TGd = _norm(layer.q_norm, query_THd), _norm(layer.k_norm, key_TGd)
    options = Options(layer.scaling, layer.attention_dropout if layer.training else 0.0, causal, _window(layer))
    return attend(
        rotate(query_THd, *angles), rotate(key_TGd, *angles), value_TGd, batch, options, layer.layer_idx
    ).flatten(1)


def _window(layer: Any) -> int | None:
    """Return how far a layer looks, as its class has it: Llama's reads no window, whatever the configuration names."""
    if type(layer) is MistralAttention:
        return cast(int | None, layer.config.sliding_window)
    return getattr(layer, "sliding_window", None)


def _feed_forward(layer: Any, normed_TD: Tensor, kernels: Kernels) -> Tensor:
    gated_TO = gated_silu(kernels.linear(layer.gate_proj, normed_TD), kernels.linear(layer.up_proj, normed_TD))
    return kernels.linear(layer.down_proj, gated_TO)
