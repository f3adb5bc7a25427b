"""How many tokens a GPU's memory holds in one training pass, measured on the model itself.

Two passes over sequences as long as the longest, one pass twice as large as the other, tell what a token takes beside what is
there anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from vertebra.engine.devices import Devices
from vertebra.engine.model import TaskModel
from vertebra.engine.packing import pack
from vertebra.engine.token_budget import is_out_of_memory
from vertebra.errors import RunError
from vertebra.tasks.features import Features
from vertebra.tasks.task import Task

FIRST_PASS = 2048
"""About this many tokens, or one sequence if that has more, are in the smaller pass."""
SHARE = 0.75
"""Of the memory; the rest is for what the allocator cannot join and for the kernels' own buffers."""
MOST = 1 << 17
"""Tokens beyond which a GPU is busy anyway."""
ADAM_BYTES = 8
"""Of the optimizer for each trained weight, two moments in fp32; they come with the first step."""
GATHERED_BYTES = 8
"""Of each trained weight when processes add up their gradients: a copy before and one after."""


def measured_budget(model: TaskModel, task: Task, features: Sequence[Features], devices: Devices) -> int:
    """Return the token budget that fills most of the GPU's memory in training, the same for all processes.

    It is a power of two, so that a little more or less of free memory leads to the same one. The weights stay as they are.
    """
    longest = max(features, key=len)
    count = max(1, FIRST_PASS // len(longest))
    try:
        # The first one also makes what stays: gradients, and the buffers of the libraries.
        _, small, large = (peak_memory(model, task, [longest] * n, devices) for n in (count, count, 2 * count))
        tokens = tokens_within(_room(model, devices), count * len(longest), small, large)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if devices.sharded:  # the others wait within this pass
            raise RunError(
                f"A pass over {count * len(longest)} tokens does not fit into memory. Use "
                "backbone.gradient_checkpointing=true, a smaller backbone.context, or more processes."
            ) from error
        tokens = count * len(longest)  # from here on, training finds out
    finally:
        model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
    return devices.smallest(tokens)


def tokens_within(room: float, tokens: int, small: int, large: int) -> int:
    """Return the largest power of two of tokens within `room` bytes, at least 1 and at most `MOST`.

    `small` and `large` are the bytes that `tokens` and twice as many took.
    """
    per_token = (large - small) / tokens
    anyway = small - per_token * tokens
    fitting = (room - anyway) / per_token if per_token > 0 else MOST
    return 1 << int(math.log2(min(MOST, max(1, fitting))))


def peak_memory(model: TaskModel, task: Task, piece: Sequence[Features], devices: Devices) -> int:
    """Return the most bytes that a forward and backward pass over a piece takes, weights and gradients included."""
    device = devices.accelerator.device
    torch.cuda.reset_peak_memory_stats(device)
    batch = pack(task.complete(piece, 0), task.collate).to(device)
    model.train()
    with devices.accelerator.autocast():
        outputs = model(batch, task.name)
    assert batch.targets is not None
    devices.accelerator.backward(task.loss(outputs, batch.targets))
    return torch.cuda.max_memory_allocated(device)


def _room(model: TaskModel, devices: Devices) -> float:
    """Return the bytes that a training pass may take, those that this process holds already included."""
    device = devices.accelerator.device
    free, _ = torch.cuda.mem_get_info(device)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    processes = devices.accelerator.num_processes
    if devices.sharded:
        trained, later = trained // processes, ADAM_BYTES
    else:
        later = ADAM_BYTES + (GATHERED_BYTES if processes > 1 else 0)
    return SHARE * (free + torch.cuda.memory_reserved(device)) - trained * later
