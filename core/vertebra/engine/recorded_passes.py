"""Training passes of a backbone on a GPU, recorded once for each size and played again (CUDA graphs).

A pass of a small model is a thousand kernels that a GPU computes in a tenth of the time in which the host can name them one
by one. A recorded pass is named as a whole. It computes the same, on memory of its own that its inputs are copied into, and
adds its gradients to buffers that are the parameters' `grad`.

Letters: T tokens in the stream, N sequences, L tokens of the longest, D hidden width.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from vertebra.engine.attention_rectangle import Rectangle, is_worth_it
from vertebra.engine.directions import Direction
from vertebra.engine.groups import Groups
from vertebra.engine.packing import PackedBatch, rounded
from vertebra.engine.token_budget import is_out_of_memory

MOST_TOKENS = 1 << 14
MOST_WORK = 2e12
"""Tokens times weights. Beyond either a GPU is busy with one kernel until the next has been named: nothing is to be gained."""
MOST_RECORDINGS = 48
"""Each holds its inputs and outputs; what lies between them is shared."""
WARM_UP = 3
"""Passes before a recording, in which libraries make what they keep."""


class Recorder(Protocol):
    """Records work on a device."""

    def warm(self, work: Callable[[], None]) -> None:
        """Do the work, as it is done in a recording."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return what does the work again, on the same memory."""


class CudaRecorder:
    """Records CUDA graphs that share the memory of what is neither their input nor their output.

    So no other may be played between a forward pass and its backward pass.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def warm(self, work: Callable[[], None]) -> None:
        """Do the work on another stream than the default one, which cannot be recorded."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()
        torch.cuda.current_stream().wait_stream(stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return the replay of a graph."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            work()
        return graph.replay


class Stream(PackedBatch):
    """A stream that is filled up to a size, and of which no more is known on the host."""

    @property
    def groups(self) -> Groups:
        """Refuse: groups follow from lengths, and a recording holds for all."""
        raise RuntimeError("attention by groups cannot be recorded")

    @cached_property
    def rectangle(self) -> Rectangle:
        """What attention computes where the kernel fails, however much of it is padding."""
        return Rectangle.of(self.cu_seqlens, self.n_tokens, max(self.lengths))

    @staticmethod
    def of(size: Size, ids_T: Tensor, places_T: Tensor, starts: Tensor) -> Stream:
        """Return a stream that is read at no position."""
        lengths = (size.longest,) * size.sequences
        return Stream(ids_T, places_T, starts, lengths, places_T, (1,), None, (), size.attention)


@dataclass(frozen=True)
class Size:
    """What a recording depends on: batches are filled up to it, so that few sizes do for all."""

    tokens: int
    sequences: int
    longest: int
    attention: Direction | None = None
    """How its tokens look, where that is not as the backbone's do."""

    @staticmethod
    def of(batch: PackedBatch) -> Size:
        """Return the size of a batch: T a multiple of 64, above 1024 of an eighth of a power of two; the others such powers."""
        step = max(64, (1 << batch.n_tokens.bit_length()) // 16)
        tokens = -(-batch.n_tokens // step) * step
        longest = max(batch.lengths)
        sequences = len(batch) + -(-(tokens - batch.n_tokens) // longest)
        return Size(tokens, _power_of_two(sequences), _power_of_two(max(64, longest)), batch.attention)


def filled(batch: PackedBatch, size: Size) -> Stream:
    """Return the batch filled up: with sequences that nobody reads, and with empty ones."""
    batch = rounded(batch, size.tokens)
    starts = batch.cu_seqlens
    empty = starts[-1:].expand(size.sequences + 1 - len(starts))
    return Stream.of(size, batch.input_ids_T, batch.position_ids_T, torch.cat([starts, empty]))


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


class RecordedPasses:
    """The passes of one model in one training, in which nothing but the values of its weights changes."""

    def __init__(
        self,
        model: nn.Module,
        run: Callable[[PackedBatch], Tensor],
        recorder: Recorder,
        tell: Callable[[str], None],
        *,
        one_kernel: bool,
    ) -> None:
        """`run` is a pass from a stream to hidden states (T, D); `tell` gets a line where it cannot be recorded.

        `one_kernel` says whether attention takes a stream as it lies; else it is laid out as a rectangle.
        """
        self._model, self._pass, self._recorder, self._tell = model, Pass(model, run), recorder, tell
        self._one_kernel = one_kernel
        self._weights = sum(one.numel() for one in model.parameters())
        self._trained = {name: one for name, one in self._pass.named_parameters() if one.requires_grad}
        self._gradients: dict[str, Tensor] = {}
        """Made for the first recording: a model that is too large for any must have no room for them."""
        self._seen: Counter[tuple[Size, bool]] = Counter()
        self._recordings: dict[tuple[Size, bool], Recording] = {}
        self._last: weakref.ref[_Playing] | None = None
        self._on = bool(self._trained)

    def hidden(self, batch: PackedBatch) -> Tensor | None:
        """Return the hidden states of a stream (at least T, D), its own first; None where nothing is gained by recording.

        A size is recorded when it comes a second time. Until then, and while a pass is still without its gradients, the same
        is computed plainly, with the same bits but for those of dropout.
        """
        if not (self._on and torch.is_grad_enabled()) or batch.causal is not None:
            return None
        size = Size.of(batch)
        small = size.tokens <= min(MOST_TOKENS, MOST_WORK / self._weights)
        if not small or not (self._one_kernel or is_worth_it(size.tokens, size.sequences, size.longest)):
            return None
        stream, key = filled(batch, size), (size, self._model.training)
        self._seen[key] += 1
        recording = self._recordings.get(key)
        may = not self._is_open()
        if may and recording is None and self._seen[key] > 1 and len(self._recordings) < MOST_RECORDINGS:
            recording = self._record(key)
        if recording is None or not may:
            plain_TD: Tensor = self._pass(stream)
            return plain_TD
        recording.load(stream)
        this = _Playing(recording, self._take_gradients)
        self._last = weakref.ref(this)
        hidden_TD: Tensor = _Played.apply(self._anchor(batch), this)  # type: ignore[no-untyped-call]
        return hidden_TD

    def _is_open(self) -> bool:
        """Whether the backward pass of the last recording that was played can still come."""
        last = self._last() if self._last is not None else None
        return last is not None and not last.done

    def _record(self, key: tuple[Size, bool]) -> Recording | None:
        try:
            if not self._gradients:
                self._gradients = {name: torch.zeros_like(one) for name, one in self._trained.items()}
            made = Recording(key[0], self._pass, self._trained, self._gradients, self._recorder)
        except RuntimeError as error:
            self._recordings.clear()
            self._gradients = {}
            if is_out_of_memory(error):
                raise
            self._on = False
            self._tell(f"passes are not recorded, which is slower: {str(error).partition(chr(10))[0]}")
            return None
        self._recordings[key] = made
        return made

    def _take_gradients(self) -> None:
        """Make the buffers the parameters' gradients, with what these hold already."""
        unset = []
        for name, parameter in self._trained.items():
            buffer = self._gradients[name]
            if parameter.grad is None:
                unset.append(buffer)
            elif parameter.grad is not buffer:
                buffer.copy_(parameter.grad)
            parameter.grad = buffer
        if unset:
            torch._foreach_zero_(unset)

    @staticmethod
    def _anchor(batch: PackedBatch) -> Tensor:
        """Return something with a gradient, for autograd to come by: the weights are no inputs of what is played."""
        return torch.empty(0, device=batch.input_ids_T.device, requires_grad=True)


class Pass(nn.Module):
    """A pass of a model as a module around it, for its weights to be replaced in one call."""

    def __init__(self, model: nn.Module, run: Callable[[PackedBatch], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._run = run

    def forward(self, batch: PackedBatch) -> Tensor:
        """Return hidden states (T, D)."""
        hidden_TD: Tensor = self._run(batch)
        return hidden_TD


@dataclass(eq=False)
class _Playing:
    """One playing of a recording."""

    recording: Recording
    take_gradients: Callable[[], None]
    done: bool = False


class _Played(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, this: _Playing) -> Tensor:
        ctx.this = this
        this.recording.play_forward()
        return this.recording.hidden_TD.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TD: Tensor) -> tuple[None, None]:
        this: _Playing = ctx.this
        this.take_gradients()
        this.recording.gradient_TD.copy_(gradient_TD)
        this.recording.play_backward()
        this.done = True
        return None, None


class Recording:
    """A forward and a backward pass for one size."""

    def __init__(
        self,
        size: Size,
        model: Pass,
        trained: Mapping[str, nn.Parameter],
        gradients: Mapping[str, Tensor],
        recorder: Recorder,
    ) -> None:
        """Record a pass; its gradients by the `trained` parameters, by their names in it, are added to `gradients`."""
        device = next(iter(trained.values())).device
        kind = device.type
        autocast = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        self._ids_T, self._places_T = (torch.zeros(size.tokens, dtype=torch.long, device=device) for _ in "ab")
        self._starts = torch.full((size.sequences + 1,), size.tokens, dtype=torch.int32, device=device)
        self._starts[0] = 0
        self.hidden_TD: Tensor
        leaves: dict[str, Tensor] = {}

        def forward() -> None:
            stream = Stream.of(size, self._ids_T, self._places_T, self._starts)
            # Leaves of this pass alone: those of the parameters belong to the stream of work that met them first.
            leaves.update({name: one.detach().requires_grad_() for name, one in trained.items()})
            # Casts that autocast keeps belong to no recording.
            with torch.autocast(kind, autocast[1], enabled=autocast[0], cache_enabled=False):
                self.hidden_TD = functional_call(model, leaves, (stream,))

        def backward() -> None:
            found = torch.autograd.grad(self.hidden_TD, list(leaves.values()), self.gradient_TD, allow_unused=True)
            pairs = [(gradients[name], one) for name, one in zip(leaves, found, strict=True) if one is not None]
            torch._foreach_add_([total for total, _ in pairs], [one for _, one in pairs])

        def both() -> None:
            forward()
            torch.autograd.grad(self.hidden_TD.sum(), list(leaves.values()), allow_unused=True)

        with torch.enable_grad():
            for _ in range(WARM_UP):
                recorder.warm(both)
            self.play_forward = recorder.record(forward)
            self.gradient_TD = torch.zeros_like(self.hidden_TD)
            self.play_backward = recorder.record(backward)

    def load(self, stream: Stream) -> None:
        """Copy a stream of this size to where the recording reads it."""
        self._ids_T.copy_(stream.input_ids_T)
        self._places_T.copy_(stream.position_ids_T)
        self._starts.copy_(stream.cu_seqlens)
