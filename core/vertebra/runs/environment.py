"""What a run ran on, and with: versions, hardware, the state of the code."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil
import torch

import vertebra

LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "hydra-core", "tokenizers", "numpy")


def describe_environment() -> dict[str, str | int | float]:
    """Return versions, hardware and, where vertebra runs from a checkout, its commit."""
    found: dict[str, str | int | float] = {
        "vertebra": vertebra.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in LIBRARIES},
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": psutil.cpu_count(logical=True) or 1,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }
    commit = _git_commit()
    return {**found, "git_commit": commit} if commit else found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _git_commit() -> str | None:
    """Return the commit of the checkout that this code is in, with `+changes` where files differ from it."""
    here = Path(vertebra.__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if git("ls-files", "--error-unmatch", Path(vertebra.__file__).name) == "":
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
