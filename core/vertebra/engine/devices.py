"""Devices, processes, precision: what `auto` finds on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list

from vertebra.config.schema import GPUConfig
from vertebra.engine.allocator import keep_large_buffers
from vertebra.engine.primitive_caches import keep_few_primitives
from vertebra.engine.ranks import world_size
from vertebra.engine.token_budget import TokenBudget
from vertebra.errors import RunError

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Devices:
    """The settled choice, and the accelerator that carries it out."""

    accelerator: Accelerator
    config: GPUConfig
    """With every `auto` replaced."""
    budget: TokenBudget
    """How much is computed at once; less than `config` says where memory ran out."""

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of the weights, and a pass is an exchange among all of them."""
        return self.config.shard and self.accelerator.num_processes > 1

    def autocast_for_evaluation(self) -> torch.autocast:
        """Return the context in which evaluation multiplies its matrices."""
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.evaluation_dtype is not None)

    @property
    def training_dtype(self) -> torch.dtype | None:
        """The type in which training multiplies its matrices; None for the weights' own."""
        return torch.bfloat16 if self.config.precision == "bf16" else None

    @property
    def evaluation_dtype(self) -> torch.dtype | None:
        """The type in which evaluation multiplies its matrices; None for the weights' own."""
        return torch.bfloat16 if self.config.evaluation_precision == "bf16" else None

    def from_main(self, text: str) -> str:
        """Return what the main process passes here; every process must come here."""
        if self.accelerator.num_processes == 1:
            return text
        shared = [text]
        broadcast_object_list(shared)
        return shared[0]

    def agree(self, one: bool) -> bool:
        """Whether any process passes True here; every process must come here."""
        if self.accelerator.num_processes == 1:
            return one
        votes = self.accelerator.reduce(torch.tensor(float(one), device=self.accelerator.device), "sum")
        return float(votes) > 0

    def smallest(self, one: int) -> int:
        """Return the smallest number that any process passes here; every process must come here."""
        if self.accelerator.num_processes == 1:
            return one
        return int(self.accelerator.gather(torch.tensor([one], device=self.accelerator.device)).min())

    def largest(self, one: int) -> int:
        """Return the largest number that any process passes here; every process must come here."""
        return -self.smallest(-one)

    def with_budget(self, tokens: int) -> Devices:
        """Return the same devices with another token budget."""
        budget = TokenBudget(tokens, fixed=self.sharded)
        return replace(self, config=replace(self.config, token_budget=tokens), budget=budget)

    def __str__(self) -> str:
        device = self.accelerator.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {self.config.threads} threads"
        many = f", {self.accelerator.num_processes} processes" if self.accelerator.num_processes > 1 else ""
        many += " that share the weights" if self.sharded else ""
        return f"{name}{many}, {self.config.precision}, {self.budget.tokens} tokens a pass"


def set_up(config: GPUConfig) -> Devices:
    """Settle the configuration on this machine and start accelerate.

    Raises `RunError` for a device that there is none of, or for several processes that were not started as such.
    """
    if config.device not in DEVICES:
        raise RunError(f"device={config.device!r}: it is one of {', '.join(DEVICES)}.")
    on_gpu = _on_gpu(config)
    if on_gpu and not torch.cuda.is_available():
        raise RunError(
            "gpu.device=cuda, but torch finds no CUDA device here. Use gpu=cpu, or install a CUDA build of torch."
        )
    started = world_size()
    if config.processes not in ("auto", started):
        raise RunError(
            f"gpu.processes={config.processes}, but {started} process(es) were started. Use gpu=ddp gpu.processes={started}; "
            "or start a single one without torchrun, and it starts as many as the configuration says."
        )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", started))
    if on_gpu and here > torch.cuda.device_count():
        raise RunError(
            f"gpu.processes={here}, but there are {torch.cuda.device_count()} GPUs here, and each takes one."
        )
    threads = threads_of(config, started)
    torch.set_num_threads(threads)
    keep_large_buffers()
    keep_few_primitives()
    precision = config.precision if config.precision != "auto" else "bf16" if native_bf16(on_gpu) else "fp32"
    budget = config.token_budget if config.token_budget != "auto" else 32768 if on_gpu else 4096
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    # A process may make several runs one after the other (sweeps), each with its own precision.
    AcceleratorState._reset_state(reset_partial_state=started == 1)
    accelerator = Accelerator(cpu=not on_gpu, mixed_precision="bf16" if precision == "bf16" else "no")
    if accelerator.num_processes != started:
        raise RunError(
            f"{started} processes were started, but each would train alone (accelerate sees {accelerator.num_processes}). "
            "Start one, with gpu=ddp, or use torchrun."
        )
    settled = replace(
        config,
        device="cuda" if on_gpu else "cpu",
        processes=started,
        precision=precision,
        token_budget=budget,
        threads=threads,
    )
    return Devices(accelerator, settled, TokenBudget(budget, fixed=config.shard and started > 1))


def wanted_processes(config: GPUConfig) -> int:
    """Return how many processes a run is to have; auto: one for each GPU, one without any."""
    if config.processes == "auto":
        return max(1, torch.cuda.device_count()) if _on_gpu(config) else 1
    return config.processes


def threads_of(config: GPUConfig, processes: int) -> int:
    """Return the CPU threads of each of so many processes."""
    return max(1, _cores() // processes) if config.threads == "auto" else config.threads


def _on_gpu(config: GPUConfig) -> bool:
    return torch.cuda.is_available() if config.device == "auto" else config.device == "cuda"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def native_bf16(on_gpu: bool) -> bool:
    """Whether the hardware multiplies bf16 matrices itself; emulated, they are slower than fp32 ones."""
    if on_gpu:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())
