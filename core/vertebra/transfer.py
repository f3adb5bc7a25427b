"""Numbers of the host on their way to a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def send(values: Tensor | np.ndarray | Sequence[Any], device: torch.device | str) -> Tensor:
    """Return values as a tensor on `device`; a GPU copies them while the host goes on.

    `torch.tensor(values, device=...)` would wait until the GPU has done all that was asked of it before. Only from pinned
    memory does it copy beside its other work.
    """
    tensor = torch.as_tensor(values)
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
