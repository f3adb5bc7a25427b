"""Recorded passes train as plain ones do, and give way to these where they would not.

What records them needs a GPU (tests/gpu); here work that is done again stands in its place, and a plain computation for the
varlen kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models as tiny
import torch
from test_attention_varlen import Kernels
from test_token_budget import Notes
from test_trainer import SHORT, make_trainer, rows_of
from torch import Tensor

from vertebra.engine import attention_rectangle, attention_varlen, recorded_passes
from vertebra.engine.attention import PACKED
from vertebra.engine.backbone import run_packed
from vertebra.engine.packing import PackedBatch, pack
from vertebra.engine.recorded_passes import RecordedPasses, Size
from vertebra.engine.trainer import Trainer
from vertebra.host.manager import create_host


class Again:
    """Does recorded work again; counts recordings and what is played."""

    def __init__(self, fails: str = "", runs_out: int = 0) -> None:
        self.recorded = self.played = 0
        self.fails, self.runs_out = fails, runs_out

    def warm(self, work: Callable[[], None]) -> None:
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        if self.fails:
            raise RuntimeError(self.fails)
        if self.runs_out:
            self.runs_out -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.recorded += 1
        gradients = torch.is_grad_enabled()
        if "forward" in work.__name__:
            work()

        def play() -> None:
            self.played += 1
            with torch.set_grad_enabled(gradients):
                work()

        return play


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernels:
    """Let the stand-in for the varlen kernel compute on the CPU, in fp32 too."""
    kernels = Kernels()
    monkeypatch.setattr(attention_varlen, "find_kernel", lambda: kernels.torch_2_12)
    monkeypatch.setattr(attention_varlen, "DEVICES", ("cpu",))
    monkeypatch.setattr(attention_varlen, "DTYPES", (torch.float32,))
    return kernels


def batch_of(lengths: list[int], seed: int = 0) -> PackedBatch:
    return pack(tiny.sequences(lengths, seed), lambda _: None)


def passes_of(
    model: torch.nn.Module, recorder: Again, told: list[str] | None = None, one_kernel: bool = True
) -> RecordedPasses:
    lines = [] if told is None else told
    return RecordedPasses(
        model,
        lambda batch: run_packed(model, batch, batch.attention or "causal"),
        recorder,
        lines.append,
        one_kernel=one_kernel,
    )  # type: ignore[arg-type]


def loss_of(hidden_TD: Tensor) -> Tensor:
    return (hidden_TD @ torch.linspace(-1, 2, hidden_TD.shape[1]).sin()).square().mean()


def gradients_of(model: torch.nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def assert_near(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm().clamp(min=1e-4)


@pytest.mark.parametrize("one_kernel", [True, False])
@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "mistral", "gpt_neox"])
def test_what_is_played_equals_what_is_computed(family: str, one_kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model(family)
    model.set_attn_implementation(PACKED)
    recorder = Again()
    passes = passes_of(model, recorder, one_kernel=one_kernel)
    if not one_kernel:
        monkeypatch.setattr(attention_varlen, "DEVICES", ())
        monkeypatch.setattr(attention_rectangle, "DEVICES", ("cpu",))
    passes.hidden(batch_of([7, 3, 12]))
    assert recorder.recorded == 0  # a size that may never come again
    for seed, lengths in enumerate([[7, 3, 12], [20, 1], [9, 8, 7], [tiny.CONTEXT, 1, 1, 1, 1]]):
        batch = batch_of(lengths, seed)
        model.zero_grad()
        expected = run_packed(model, batch, "causal")  # type: ignore[arg-type]
        loss_of(expected).backward()
        plain = gradients_of(model)
        model.zero_grad()
        hidden = passes.hidden(batch)
        assert hidden is not None
        torch.testing.assert_close(hidden[: batch.n_tokens], expected, rtol=1e-5, atol=1e-5)
        loss_of(hidden[: batch.n_tokens]).backward()
        assert_near(gradients_of(model), plain)
    assert recorder.recorded == 2 and recorder.played == 8  # all are of one size


def test_streams_that_look_another_way_have_recordings_of_their_own() -> None:
    model = tiny.model("gpt2")
    model.set_attn_implementation(PACKED)
    recorder = Again()
    passes = passes_of(model, recorder)
    causal = batch_of([7, 3, 12])
    both_ways = replace(causal, attention="bidirectional")
    for _ in range(2):
        for batch in (causal, both_ways):
            hidden = passes.hidden(batch)
            assert hidden is not None
            expected = run_packed(model, batch, batch.attention or "causal")  # type: ignore[arg-type]
            torch.testing.assert_close(hidden[: batch.n_tokens], expected, rtol=1e-5, atol=1e-5)
            hidden.sum().backward()
    assert recorder.recorded == 4, "forwards and backwards of each"


def test_gradients_add_up_over_pieces_and_with_those_from_elsewhere() -> None:
    model = tiny.model("gpt2")
    model.set_attn_implementation(PACKED)
    batches = [batch_of([9, 7, 3], 1), batch_of([9, 9, 2], 2)]
    matrix = model.get_input_embeddings().weight

    def add_up(run: Callable[[PackedBatch], Tensor]) -> list[Tensor]:
        model.zero_grad(set_to_none=True)
        matrix.square().sum().backward()  # as of an output matrix that is the embedding too
        for batch in batches:
            loss_of(run(batch)[: batch.n_tokens]).backward()
        return gradients_of(model)

    plain = add_up(lambda batch: run_packed(model, batch, "causal"))
    recorder = Again()
    passes = passes_of(model, recorder)

    def play(batch: PackedBatch) -> Tensor:
        hidden = passes.hidden(batch)
        assert hidden is not None
        return hidden

    assert_near(add_up(play), plain)
    assert recorder.played == 2  # the second piece; the first one's size had not come before
    assert_near(add_up(play), plain)  # a step later
    assert recorder.played == 6


def test_a_second_pass_before_the_first_ones_gradients_is_a_plain_one() -> None:
    model = tiny.model("gpt2")
    model.set_attn_implementation(PACKED)
    recorder, batch = Again(), batch_of([7, 3])
    passes = passes_of(model, recorder)
    hidden = [passes.hidden(batch) for _ in range(3)]  # the second one is played
    assert recorder.played == 1
    plain = run_packed(model, batch, "causal")  # type: ignore[arg-type]
    for one in hidden:
        assert one is not None
        torch.testing.assert_close(one[: batch.n_tokens], plain, rtol=1e-5, atol=1e-5)
    assert hidden[1] is not None
    loss_of(hidden[1]).backward()
    assert recorder.played == 2
    again = passes.hidden(batch)
    assert again is not None and recorder.played == 3
    del again  # nobody wants its gradients any more
    passes.hidden(batch)
    assert recorder.played == 4


def test_evaluation_and_large_streams_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model("gpt2")
    model.set_attn_implementation(PACKED)
    recorder = Again()
    passes = passes_of(model, recorder)
    for _ in range(3):
        with torch.no_grad():
            assert passes.hidden(batch_of([7, 3])) is None
    monkeypatch.setattr(recorded_passes, "MOST_TOKENS", 9)
    for _ in range(3):
        assert passes.hidden(batch_of([7, 3])) is None
    assert recorder.recorded == 0


def test_what_a_rectangle_would_waste_is_plain() -> None:
    model = tiny.model("gpt2")
    model.set_attn_implementation(PACKED)
    recorder = Again()
    passes = passes_of(model, recorder, one_kernel=False)
    for _ in range(3):
        assert passes.hidden(batch_of([tiny.CONTEXT] + [1] * 500)) is None
    assert recorder.recorded == 0


def trained(folder: Path, recorder: Again | None, notes: Notes | None = None) -> Trainer:
    host = create_host()
    if notes is not None:
        host.manager.register(notes)
    trainer = make_trainer(folder, SHORT, host=host, rows=rows_of(40), budget=60)
    if recorder is not None:
        recorded = trainer.model.backbone.recorded
        trainer.model.backbone.recorded = lambda dtype, tell: recorded(dtype, tell, recorder)  # type: ignore[method-assign, assignment, misc]
    trainer.fit()
    return trainer


def test_a_training_from_recordings_ends_as_a_plain_one(tmp_path: Path) -> None:
    recorder = Again()
    recorded, plain = trained(tmp_path / "a", recorder), trained(tmp_path / "b", None)
    assert recorder.played > 10
    for one, other in zip(recorded.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_recorded_is_said_once_and_trained_plainly(tmp_path: Path) -> None:
    notes = Notes()
    failed, plain = trained(tmp_path / "a", Again("it may not\nat all"), notes), trained(tmp_path / "b", None)
    assert notes.lines == ["passes are not recorded, which is slower: it may not"]
    for one, other in zip(failed.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_memory_that_runs_out_in_a_recording_halves_the_step(tmp_path: Path) -> None:
    notes, recorder = Notes(), Again(runs_out=1)
    recorded, plain = trained(tmp_path / "a", recorder, notes), trained(tmp_path / "b", None)
    [line] = notes.lines
    assert "Memory ran out" in line and recorder.played > 10
    for one, other in zip(recorded.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_where_the_kernel_fails_a_rectangle_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = tiny.model("gpt2"), batch_of([tiny.CONTEXT] + [1] * 500)
    model.set_attn_implementation(PACKED)
    assert batch.rectangle is None
    expected = run_packed(model, batch, "causal")  # type: ignore[arg-type]
    monkeypatch.setattr(attention_varlen, "DEVICES", ())
    monkeypatch.setattr(attention_rectangle, "DEVICES", ("cpu",))
    passes = passes_of(model, Again())
    for _ in range(2):
        hidden = passes.hidden(batch)
        assert hidden is not None
        torch.testing.assert_close(hidden[: batch.n_tokens], expected, rtol=1e-5, atol=1e-5)


def test_sizes_are_few() -> None:
    class Long:
        attention = None

        def __init__(self, tokens: int) -> None:
            self.n_tokens, self.lengths = tokens, (tokens,)

        def __len__(self) -> int:
            return 1

    sizes = set()
    for tokens in range(1, recorded_passes.MOST_TOKENS + 1):
        size = Size.of(Long(tokens))  # type: ignore[arg-type]
        assert 0 <= size.tokens - tokens < max(64, tokens / 8 + 1)
        sizes.add(size.tokens)
    assert len(sizes) < 64
    assert Size.of(batch_of([7, 3, 12])) == Size(64, 8, 64)
