"""Seeds of what is drawn at random while a model runs."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Set every global generator, so that code which draws from one, a plugin's say, draws what it would in a new process."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_draws(seed: int, device: torch.device) -> None:
    """Set torch's default generator on a device.

    On the CPU only its own one: `torch.manual_seed` also asks every kind of accelerator, and notes the call stack for each
    that is not there, which takes as long as a small head's step.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
