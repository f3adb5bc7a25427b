"""Memory stays as it is however many shapes a process multiplies."""

from __future__ import annotations

import os
import subprocess
import sys

from vertebra.engine.primitive_caches import CAPACITY, keep_few_primitives

# Prints by how many MiB a process has grown after products of many different row counts.
PRODUCTS = """
import psutil, torch
from vertebra.config.schema import GPUConfig
from vertebra.engine.devices import set_up

set_up(GPUConfig(device="cpu", threads=1))
weights = torch.randn(256, 512, dtype=torch.bfloat16)

def multiply(rows):
    torch.randn(rows, 512, dtype=torch.bfloat16) @ weights.T

for rows in range(1, 41):
    multiply(rows)
before = psutil.Process().memory_info().rss
for rows in range(41, 441):
    multiply(rows)
print((psutil.Process().memory_info().rss - before) / 2**20)
"""


def growth(**environment: str) -> float:
    caches = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
    inherited = {name: value for name, value in os.environ.items() if name not in caches}
    ran = subprocess.run(
        [sys.executable, "-c", PRODUCTS], capture_output=True, text=True, check=True, env=inherited | environment
    )
    return float(ran.stdout)


def test_products_of_ever_new_shapes_do_not_take_ever_more_memory() -> None:
    assert growth() < 30


def test_who_sets_a_capacity_keeps_it(monkeypatch) -> None:
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    keep_few_primitives()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == str(CAPACITY)
