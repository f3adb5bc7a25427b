"""Which layer a parameter belongs to, by its name: families of transformers call their layers in one of four ways."""

from __future__ import annotations

import re

_LAYER = re.compile(r"\.(?:h|layers|layer|blocks)\.(\d+)\.")


def layer_of(parameter: str) -> int | None:
    """Return the layer, the lowest 0, of a parameter such as `model.h.3.mlp.c_fc.weight`; None outside of them."""
    found = _LAYER.search(parameter)
    return int(found[1]) if found else None
