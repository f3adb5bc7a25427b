"""Views of a backbone: its modules once more, over the same weights, for an adapter that others shall not see."""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import nn

from vertebra.engine.adapters.adapter import trained_parameters
from vertebra.engine.backbone import Backbone, Packing
from vertebra.engine.directions import Attention
from vertebra.errors import BackboneError


def view(
    backbone: Backbone,
    *,
    language_model: bool = False,
    attention: Attention | None = None,
    packing: Packing | None = None,
    same_parameters: bool = False,
) -> Backbone:
    """Return a plain backbone over the same storages; an adapter on it is its own, and `own_what_is_trained` makes it exact.

    `language_model` asks for the language-model head, too. `attention` and `packing`, which may only become `padded`, are by
    default the backbone's. With `same_parameters` the view has the backbone's very parameters, which follow it to another
    device; that is for a backbone that nobody trains.
    """
    whole = backbone.language_model if language_model else backbone.model
    if whole is None:
        raise BackboneError(f"Backbone '{backbone.info.name}' was loaded without its language-model head.")
    # New parameters over the same storages: what an adapter freezes, or trains, is not frozen or trained elsewhere.
    shared: dict[int, object] = {
        id(one): one if same_parameters else nn.Parameter(one.data, requires_grad=one.requires_grad)
        for one in whole.parameters()
    }
    shared |= {id(one): one for one in whole.buffers()}
    copied = copy.deepcopy(whole, shared)
    inside = copied.base_model if language_model else copied
    info = replace(backbone.info, attention=attention or backbone.info.attention)
    made = Backbone(inside, backbone.tokenizer, info, copied if language_model else None, backbone.own_attention)
    if packing == "padded" and info.packing == "packed":
        inside.set_attn_implementation(backbone.own_attention)
        made.info = replace(info, packing="padded", layers="transformers")
    made.train(backbone.training)
    return made


def own_what_is_trained(made: Backbone, base: Backbone) -> None:
    """Give a view weights of its own where its adapter trains the base's, such as norms or the uppermost layers."""
    whole = base.language_model or base.model
    storages = {one.data_ptr() for one in (*base.model.parameters(), *whole.parameters())}
    for _, parameter in trained_parameters(made):
        if parameter.data_ptr() in storages:
            parameter.data = parameter.data.clone()
