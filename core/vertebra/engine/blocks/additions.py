"""What a pass adds to the outputs of a model's own layers, while other passes may run through the same layers.

A layer gets one hook, once, that knows nothing. What is added belongs to the pass, and the hook finds it where the pass runs:
no thread sees what another one adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

Addition = Callable[[Tensor, Tensor], Tensor]
"""From a layer's output and its input to the output with what is added."""

_OF_THIS_PASS: ContextVar[Mapping[nn.Module, Addition]] = ContextVar("additions", default=MappingProxyType({}))


@contextmanager
def adding(additions: Mapping[nn.Module, Addition]) -> Iterator[None]:
    """Let layers that listen add these to what they give here, in this thread, while the context lasts."""
    before = _OF_THIS_PASS.set(additions)
    try:
        yield
    finally:
        _OF_THIS_PASS.reset(before)


def listen(layer: nn.Module) -> None:
    """Let a layer add what its passes bring; passes that bring nothing are as they were."""
    if _add not in layer._forward_hooks.values():
        layer.register_forward_hook(_add)


def has_other_hooks(module: nn.Module) -> bool:
    """Whether a module's output is heard, or changed, by anything but this."""
    return any(hook is not _add for hook in module._forward_hooks.values())


def _add(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    addition = _OF_THIS_PASS.get().get(layer)
    return None if addition is None else addition(output, inputs[0])
