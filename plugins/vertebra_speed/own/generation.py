"""Vertebra's generator, for the same requests."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM

from vertebra.config.schema import GPUConfig
from vertebra.engine.devices import set_up
from vertebra.engine.generation.generator import Generator
from vertebra.engine.generation.request import Request
from vertebra_speed.clock import Clock, peak_memory
from vertebra_speed.requests import make_requests
from vertebra_speed.workload import Workload

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class VertebraGeneration:
    """Our generator over one workload."""

    def __init__(self, folder: str, precision: str, threads: int, device: str) -> None:
        self.workload, self.device = Workload.read(folder), device
        set_up(GPUConfig(device=device, precision=precision, threads=threads))  # type: ignore[arg-type]
        model = AutoModelForCausalLM.from_pretrained(self.workload.model, dtype=torch.float32).to(device).eval()
        self.generator = Generator(model, eos_ids=(), dtype=DTYPES[precision])

    def generate(self, requests: int, seed: int) -> dict[str, Any]:
        """Answer so many requests."""
        asked = self._requests(requests, seed)
        clock = Clock(self.device)
        self.generator.generate(asked)
        return clock.turn(sum(one.max_new_tokens for one in asked), 1)

    def tokens(self, requests: int) -> dict[str, Any]:
        """Return the new tokens of each request."""
        return {"tokens": [list(one.ids) for one in self.generator.generate(self._requests(requests, 0))]}

    def memory(self) -> dict[str, Any]:
        """Return the most memory held so far."""
        return peak_memory(self.device)

    def _requests(self, number: int, seed: int) -> list[Request]:
        made = make_requests(self.workload, number, seed)
        return [Request(one.prompt, max_new_tokens=one.stop) for one in made]
