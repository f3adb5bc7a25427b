"""What a run costs: time, memory, energy, and how fast it learns; an observer that keeps `cost.json` in the run folder.

All of it is measured in the main process of the run. Of a run that went on after it was stopped or killed the parts add up,
as far as they were written: at each evaluation, and at the end. Energy is that of the whole machine in that time, where it
can be read.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch

from vertebra.engine.events import RunStart, StepEnd
from vertebra.host.hookspecs import hookimpl
from vertebra.report.read import read_cost
from vertebra.runs.folder import RunFolder

POWERCAP = Path("/sys/class/powercap")
PEAK, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class CostMeter:
    """Measures from when it is made."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._before = read_cost(run)
        self._began, self._cpu = time.perf_counter(), time.process_time()
        self._energy = energy()
        self._tokens, self._seconds = 0, 0.0
        self._trainable = 0
        reset_peak_memory()

    @hookimpl
    def run_started(self, run: RunStart) -> None:
        """Take what is known of the model."""
        self._trainable = run.trainable_parameters

    @hookimpl
    def step_ended(self, step: StepEnd) -> None:
        """Count a step."""
        self._tokens += step.tokens
        self._seconds += step.seconds

    @hookimpl
    def evaluation_ended(self) -> None:
        """Write what it has cost so far."""
        self.write()

    @hookimpl
    def run_ended(self) -> None:
        """Write what it has cost."""
        self.write()

    def write(self) -> None:
        """Write `cost.json`; what cannot be measured on this machine is not in it."""
        parts: dict[str, float] = {
            "wall_seconds": time.perf_counter() - self._began,
            "cpu_seconds": time.process_time() - self._cpu,
            "training_seconds": self._seconds,
            "training_tokens": self._tokens,
        }
        now = energy()
        if self._energy is not None and now is not None and now >= self._energy:
            parts["energy_joules"] = now - self._energy
        summed = {name: round(value + self._before.get(name, 0), 3) for name, value in parts.items()}
        seconds = summed["training_seconds"]
        peaks = {"peak_memory_bytes": peak_memory(), "peak_gpu_memory_bytes": peak_gpu_memory()}
        found: dict[str, Any] = {
            "trainable_parameters": self._trainable,
            **summed,
            **({"tokens_per_second": round(summed["training_tokens"] / seconds, 1)} if seconds else {}),
            **{name: max(peak, self._before.get(name, 0)) for name, peak in peaks.items() if peak},
        }
        self.run.write_json("cost.json", found)


def reset_peak_memory() -> None:
    """Let the peak of this process's memory begin anew, where the system can; else it is that of all its runs so far."""
    with suppress(OSError):
        RESET.write_text("5", encoding="ascii")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> int | None:
    """Return the largest resident memory of this process, in bytes, since it was reset."""
    with suppress(OSError, ValueError, IndexError):
        lines = PEAK.read_text(encoding="ascii", errors="replace").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return int(psutil.Process().memory_info().rss)


def peak_gpu_memory() -> int | None:
    """Return the largest memory of tensors on the GPU, in bytes; None without one."""
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None


def energy(powercap: Path = POWERCAP) -> float | None:
    """Return the joules that the machine's processors (RAPL) and GPUs (NVML) have used since some time; None if unknown."""
    known = [joules for joules in (processor_energy(powercap), gpu_energy()) if joules is not None]
    return sum(known) if known else None


def processor_energy(powercap: Path = POWERCAP) -> float | None:
    """Return the joules of all processor packages, which often only root may read."""
    total = None
    for file in sorted(powercap.glob("intel-rapl:*/energy_uj")):
        if file.parent.name.count(":") > 1:  # a part of a package
            continue
        with suppress(OSError, ValueError):
            total = (total or 0.0) + int(file.read_text(encoding="ascii")) / 1e6
    return total


def gpu_energy() -> float | None:
    """Return the joules of all GPUs, where NVIDIA's library is installed."""
    if not torch.cuda.is_available():
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        devices = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        return float(sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(device) for device in devices)) / 1e3
    except Exception:  # the library is not there, or the card does not count
        return None
