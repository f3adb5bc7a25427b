"""oneDNN's caches of primitives, told to stay small.

A primitive is the program that oneDNN writes for one product of one shape. It keeps 1,024 of them, and torch as many of its own
on top, each of up to two MiB in bf16. A packed stream rarely has the same number of rows twice, so that they add up from batch
to batch until hundreds of MiB are held for shapes that do not come back. The layers of one pass share a dozen.
"""

from __future__ import annotations

import os

CAPACITY = 32
# oneDNN's own cache, and the one in torch's layer over it: a primitive goes when neither holds it.
_VARIABLES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


def keep_few_primitives() -> None:
    """Bound both caches where the environment does not say otherwise; both are made, and read it, at the first product."""
    for variable in _VARIABLES:
        os.environ.setdefault(variable, str(CAPACITY))
