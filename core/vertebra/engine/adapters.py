"""Adapters: which part of the backbone is trained."""

from __future__ import annotations

from typing import Any

from torch import nn


def none(backbone: nn.Module, config: Any) -> nn.Module:
    """Train the whole backbone."""
    return backbone
