"""What transformers calls a model's cache of keys and values."""

from __future__ import annotations

import inspect

from transformers import PreTrainedModel


def cache_name(model: PreTrainedModel) -> str:
    """Return the name of the argument, and of the output: `cache` since transformers 5.24, `past_key_values` before."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
