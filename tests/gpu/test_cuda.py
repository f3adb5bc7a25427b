"""What only a GPU can show: pytest tests/gpu"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models as tiny
import torch
from test_token_budget import Notes
from test_trainer import SHORT, make_trainer, rows_of
from torch import Tensor

from vertebra.config.schema import GPUConfig
from vertebra.engine import attention_varlen, recorded_passes
from vertebra.engine.attention import PACKED
from vertebra.engine.backbone import run_packed, run_padded
from vertebra.engine.budget_measurement import measured_budget, peak_memory
from vertebra.engine.directions import Attention
from vertebra.engine.packing import pack
from vertebra.engine.trainer import Trainer
from vertebra.host.manager import create_host

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]

FAMILIES = ["gpt2", "llama", "qwen3", "mistral", "gpt_neox"]
LENGTHS = [1, tiny.CONTEXT, 7, 7, 3, 1, 12]
FP32 = GPUConfig(device="cuda", precision="fp32", threads=1)
BF16 = GPUConfig(device="cuda", precision="bf16", threads=1)


@pytest.fixture(autouse=True)
def settings_of_torch() -> Iterator[None]:
    """Leave torch as it was."""
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)
    torch.cuda.set_sync_debug_mode("default")
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the queries that the varlen kernel was called with."""
    kernel, shapes = attention_varlen.find_kernel(), []
    if kernel is None:
        pytest.skip("this torch has no varlen kernel")

    def counting(query: Tensor, *rest: Any, **options: Any) -> Any:
        shapes.append(tuple(query.shape))
        return kernel(query, *rest, **options)

    accepted = attention_varlen._accepted(kernel)
    monkeypatch.setattr(attention_varlen, "_accepted", lambda _: accepted)
    monkeypatch.setattr(attention_varlen, "find_kernel", lambda: counting)
    return shapes


def hidden_and_gradients(run: Callable[..., Tensor], model: torch.nn.Module, attention: Attention) -> list[Tensor]:
    model.zero_grad()
    batch = pack(tiny.sequences(LENGTHS), lambda _: None).to("cuda")
    hidden = run(model, batch, attention).float()
    (hidden @ torch.linspace(-1, 2, hidden.shape[1], device="cuda").sin()).square().mean().backward()
    return [hidden.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


# --- attention


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_padded_in_fp32(family: str, attention: Attention) -> None:
    model = tiny.model(family).cuda()
    expected = hidden_and_gradients(run_padded, model, attention)
    model.set_attn_implementation(PACKED)
    for one, other in zip(hidden_and_gradients(run_packed, model, attention), expected, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm().clamp(min=1e-4)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_varlen_kernel_equals_padded_in_bf16(
    family: str, attention: Attention, calls: list[tuple[int, ...]]
) -> None:
    model = tiny.model(family).cuda()
    exact = hidden_and_gradients(run_padded, model, attention)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        padded = hidden_and_gradients(run_padded, model, attention)
        model.set_attn_implementation(PACKED)
        packed = hidden_and_gradients(run_packed, model, attention)
    assert any(shape[0] == sum(LENGTHS) for shape in calls)  # and not only when it was tried
    for one, other, true in zip(packed, padded, exact, strict=True):
        # As near to fp32 as the padded run in bf16 is, or nearly so.
        assert (one - true).norm() <= 2 * (other - true).norm() + 1e-2 * true.norm().clamp(min=1e-4)


# --- the step


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("gpu", [FP32, BF16], ids=["fp32", "bf16"])
def test_a_step_never_waits_for_the_device(gpu: GPUConfig, family: str, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, SHORT, gpu=gpu, family=family, budget=40)
    trainer._step()  # makes what stays: the kernel's trial, the optimizer's state
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    trainer._step()
    trainer._step()
    torch.cuda.set_sync_debug_mode("default")
    trainer.readout.settle()


@pytest.mark.parametrize("gpu", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_training_from_recordings_has_the_bits_of_a_plain_one(
    dropout: float, family: str, gpu: GPUConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, gpu = replace(SHORT, epochs=8.0), replace(gpu, deterministic=True)
    played: list[int] = []
    load = recorded_passes.Recording.load

    def counting(self: recorded_passes.Recording, stream: recorded_passes.Stream) -> None:
        played.append(stream.n_tokens)
        load(self, stream)

    monkeypatch.setattr(recorded_passes.Recording, "load", counting)
    ends, lines = [], []
    for most in (48, 0, None):
        monkeypatch.setattr(recorded_passes, "MOST_RECORDINGS", most or 0)
        notes, host = Notes(), create_host()
        host.manager.register(notes)
        trainer = make_trainer(tmp_path / str(most), config, gpu=gpu, family=family, host=host, budget=4096)
        for module in trainer.model.backbone.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
            for name in ("attention_dropout", "attn_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, dropout)
        trainer._as_they_come = most is None
        trainer.fit()
        ends.append(weights(trainer))
        lines += notes.lines
    assert not lines
    assert len(played) >= trainer.total_steps / 2
    if dropout:  # what is dropped is not the same
        assert bool(ends[0].isfinite().all()) and not torch.equal(ends[0], ends[1])
    else:
        assert torch.equal(ends[0], ends[1])
        # Streams that are not filled up: products may be added up in another order.
        start = weights(make_trainer(tmp_path / "start", config, gpu=gpu, family=family))
        assert (ends[0] - ends[2]).norm() <= 5e-2 * (ends[2] - start).norm()


def test_training_on_a_gpu_is_training_on_the_cpu(tmp_path: Path) -> None:
    ends = []
    for name, gpu in (("cpu", replace(FP32, device="cpu")), ("gpu", FP32)):
        trainer = make_trainer(tmp_path / name, SHORT, gpu=gpu, budget=40)  # type: ignore[arg-type]
        trainer.fit()
        evaluate = trainer.members[0].evaluate
        assert evaluate is not None
        ends.append((weights(trainer).cpu(), evaluate()))
    (one, scored), (other, also) = ends
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert scored.loss == pytest.approx(also.loss, rel=1e-3)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_deterministic_run_is_resumed_bit_by_bit(family: str, tmp_path: Path) -> None:
    config, gpu = replace(SHORT, checkpoint_every=2), replace(BF16, deterministic=True)

    def trainer_in(folder: str) -> Trainer:
        trainer = make_trainer(tmp_path / folder, config, gpu=gpu, family=family, budget=60)
        trainer.resume()
        return trainer

    whole = trainer_in("whole")
    whole.fit()
    broken = trainer_in("broken")
    broken.stop = lambda: broken.progress.step == 4
    with pytest.raises(Exception, match="Stopped after step 4"):
        broken.fit()
    resumed = trainer_in("broken")
    assert resumed.progress.step == 4
    resumed.fit()
    assert torch.equal(weights(resumed), weights(whole))


# --- memory


def test_out_of_memory_for_real(tmp_path: Path) -> None:
    rows, config = rows_of(4000), replace(SHORT, batch_size=4000, epochs=1.0)
    gpu = replace(FP32, deterministic=True)

    def trainer_with(folder: str, budget: int, notes: Notes) -> Trainer:
        host = create_host()
        host.manager.register(notes)
        trainer = make_trainer(tmp_path / folder, config, host=host, gpu=gpu, rows=rows, budget=budget)
        trainer.members = [replace(trainer.members[0], evaluate=None)]
        return trainer

    notes, budget = Notes(), 1 << 20
    trainer = trainer_with("a", budget, notes)
    features = [one for example in trainer.examples for one in example]
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved()
    peak = peak_memory(trainer.model, trainer.members[0].task, features, trainer.devices)
    trainer.model.zero_grad()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((held + (peak - held) // 2) / total)
    trainer.fit()
    assert len(notes.lines) == 1 and "Memory ran out" in notes.lines[0]
    assert trainer.devices.budget.tokens < sum(map(len, features))

    torch.cuda.set_per_process_memory_fraction(1.0)
    other = trainer_with("b", trainer.devices.budget.tokens, Notes())
    other.fit()
    assert torch.equal(weights(trainer), weights(other))


def test_the_measured_budget_fits(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, SHORT, gpu=BF16)
    features = [one for example in trainer.examples for one in example]
    tokens = measured_budget(trainer.model, trainer.members[0].task, features, trainer.devices)
    assert tokens & (tokens - 1) == 0
    longest = max(features, key=len)
    peak_memory(trainer.model, trainer.members[0].task, [longest] * (tokens // len(longest)), trainer.devices)
