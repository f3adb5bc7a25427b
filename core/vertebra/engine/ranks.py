"""Which of several processes this one is, as torchrun or `vertebra.runs.launch` say in the environment."""

from __future__ import annotations

import os

from vertebra.errors import RunError

FOREIGN = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""Where mpirun and srun say how many processes they started; these do not know of each other."""


def world_size() -> int:
    """Return how many processes train together.

    `RunError` where several were started in a way in which each would train alone, without a word.
    """
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    for name in FOREIGN:
        if int(os.environ.get(name) or 1) > 1:
            number = os.environ[name]
            raise RunError(
                f"{number} processes were started ({name}={number}), but each would train alone. "
                f"Start one, with gpu=ddp gpu.processes={number}, or use torchrun; unset {name} for runs apart."
            )
    return 1


def rank() -> int:
    """Return the number of this process; that of the main one, which owns the run folder, is 0."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0
