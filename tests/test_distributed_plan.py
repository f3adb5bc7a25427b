"""The formulas behind docs/distributed.md are what small models take."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from docs_module import module
from small_llama import llama
from vertebra.engine.attention import PACKED
from vertebra.engine.backbone import run_packed
from vertebra.engine.loading import checkpoint_activations
from vertebra.engine.packing import pack
from vertebra.tasks.features import Features

LENGTHS = (32,) * 4


plan = module("distributed_plan")
Setup, Shape, SEVEN_BILLION = plan.Setup, plan.Shape, plan.SEVEN_BILLION
SMALL = Shape(width=64, inner=96, layers=3, heads=4, vocabulary=300)


def test_the_parameters_are_those_of_the_model() -> None:
    with torch.device("meta"):
        model = llama(*astuple(SEVEN_BILLION))
    assert sum(one.numel() for one in model.parameters()) == SEVEN_BILLION.parameters


def kept_for_the_backward_pass(shape: Any, *, checkpointing: bool, bf16: bool) -> int:
    """Return the bytes of all tensors that a forward pass keeps, each memory once, without the parameters themselves."""
    model = llama(*astuple(shape)).train()
    model.set_attn_implementation(PACKED)
    if checkpointing:
        checkpoint_activations(model)
    own = {one.untyped_storage().data_ptr() for one in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    batch = pack([Features(np.arange(length)) for length in LENGTHS], lambda _: None)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        run_packed(model, batch, "bidirectional")
    return sum(one.untyped_storage().nbytes() for place, one in kept.items() if place not in own)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_layer_keeps_for_the_backward_pass_what_the_formula_says(bf16: bool) -> None:
    one, three = Shape(64, 96, 1, 4, 300), Shape(64, 96, 3, 4, 300)
    found = [kept_for_the_backward_pass(shape, checkpointing=False, bf16=bf16) for shape in (one, three)]
    setup = Setup(1, shard=False, checkpointing=False, bf16=bf16, tokens=sum(LENGTHS))
    expected = [plan.activations(shape, setup) for shape in (one, three)]
    # By a difference, because the formula leaves out what stands around the layers.
    assert found[1] - found[0] == expected[1] - expected[0]


def test_a_layer_computed_twice_keeps_its_input() -> None:
    one, three = Shape(64, 96, 1, 4, 300), Shape(64, 96, 3, 4, 300)
    found = [kept_for_the_backward_pass(shape, checkpointing=True, bf16=True) for shape in (one, three)]
    setup = Setup(1, shard=False, checkpointing=True, bf16=True, tokens=sum(LENGTHS))
    expected = [plan.activations(shape, setup) for shape in (one, three)]
    assert found[1] - found[0] == expected[1] - expected[0]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_processes_hold_and_send_what_the_formula_says(processes: int) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    worker = Path(__file__).with_name("distributed_worker.py")
    shape = map(str, astuple(SMALL))
    done = subprocess.run([*command, str(worker), *shape], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    setup = Setup(processes, shard=True, checkpointing=False)
    assert found["parameters"] == SMALL.parameters
    assert found["held"] == plan.states(SMALL, setup)
    assert found["sent"] == plan.sent(SMALL, setup)


def test_the_plan_says_which_setups_fit_a_gpu_of_80_gb() -> None:
    fits = {
        (processes, shard, twice): plan.memory(SEVEN_BILLION, Setup(processes, shard, twice)) < 80e9
        for processes in (8, 64)
        for shard in (False, True)
        for twice in (False, True)
    }
    assert [setup for setup, fit in fits.items() if fit] == [(8, True, True), (64, True, False), (64, True, True)]
