"""What a backbone takes of each GPU's memory, and how long a pass takes: the formulas behind docs/distributed.md.

tests/test_distributed_plan.py holds them to what small models take on a CPU, byte by byte.
Letters: N parameters, n processes, D width, F inner width, T tokens of one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

FP32, BF16 = 4, 2
GB = 1e9


@dataclass(frozen=True)
class Shape:
    """A decoder of Llama's kind, without grouped heads."""

    width: int
    inner: int
    layers: int
    heads: int
    vocabulary: int

    @property
    def layer(self) -> int:
        """Parameters of one layer: four matrices of attention, three of the feed-forward part, two norms."""
        return 4 * self.width**2 + 3 * self.width * self.inner + 2 * self.width

    @property
    def around(self) -> int:
        """Parameters outside the layers: the embedding and the last norm."""
        return self.vocabulary * self.width + self.width

    @property
    def parameters(self) -> int:
        """N."""
        return self.layers * self.layer + self.around


@dataclass(frozen=True)
class Setup:
    """How it is trained."""

    processes: int
    shard: bool
    checkpointing: bool
    bf16: bool = True
    tokens: int = 8192
    """T, tokens of a process in one pass (`gpu.token_budget`)."""


@dataclass(frozen=True)
class Machine:
    """What a GPU does; the numbers are assumptions, to be replaced by those of one's own machine."""

    flops: float
    """Operations a second of dense bf16 products, by the data sheet."""
    utilisation: float
    """The share of them that training reaches."""
    bandwidth: float
    """Bytes a second that a GPU sends to the others, the slowest link on the way."""


def states(shape: Shape, setup: Setup) -> float:
    """Bytes of weights, gradients and AdamW's two moments, all in fp32, between two steps."""
    held = shape.parameters / (setup.processes if setup.shard else 1)
    return 4 * FP32 * held


def buffers(shape: Shape, setup: Setup) -> float:
    """Bytes of weights and gradients that are whole for a while, at most at once.

    Shards: two layers are gathered, the one in work and the next, and one layer's gradient waits to be shared out; so does
    what stands around the layers. Whole models: the gradients in one piece, before and after they are added up.
    """
    if not setup.shard:
        return 2 * FP32 * shape.parameters if setup.processes > 1 else 0.0
    return FP32 * (3 * shape.layer + 2 * shape.around)


def activations(shape: Shape, setup: Setup) -> float:
    """Bytes that the forward pass leaves for the backward pass.

    Of each token a layer keeps the inputs and insides of both norms (4 D, always fp32), queries, keys, values and what
    attention makes of them (4 D), the inputs of the products (3 D), four of the feed-forward part (4 F), two numbers for the
    norms, and one for each head. In bf16 each product has an input of its own (6 D), and each matrix leaves a copy. When
    activations are computed twice, a layer keeps its input alone, and those of one layer are there at a time.
    """
    d, f = shape.width, shape.inner
    kept, copies = FP32 * (11 * d + 4 * f), 0
    if setup.bf16:
        kept = FP32 * 4 * d + BF16 * (10 * d + 4 * f)
        copies = BF16 * (shape.layer - 2 * d)
    layer = setup.tokens * (kept + FP32 * (2 + shape.heads)) + copies
    if setup.checkpointing:
        return shape.layers * setup.tokens * FP32 * d + layer
    return shape.layers * layer


def memory(shape: Shape, setup: Setup) -> float:
    """Bytes of one GPU, without what libraries and the allocator take for themselves (some GB)."""
    return states(shape, setup) + buffers(shape, setup) + activations(shape, setup)


def sent(shape: Shape, setup: Setup) -> float:
    """Bytes that a process sends: shards in every pass, whole gradients once a step.

    A ring passes (n - 1) / n of a tensor on. Shards gather the weights twice and share out the gradients, in fp32.
    """
    times = 3 if setup.shard else 2
    return times * FP32 * shape.parameters * (setup.processes - 1) / setup.processes


def computing(shape: Shape, setup: Setup, machine: Machine, length: int) -> float:
    """Seconds of the products of one pass, for sequences of this length.

    6 operations for each weight of the layers and token, 2 more where activations are computed twice. Attention takes twice as
    many for each D of each pair of tokens; a token that sees only those before it needs half, which is not counted here.
    """
    factor = 8 if setup.checkpointing else 6
    weights = shape.layers * shape.layer
    pairs = 2 * factor * shape.layers * shape.width * length
    return setup.tokens * (factor * weights + pairs) / (machine.flops * machine.utilisation)


SEVEN_BILLION = Shape(width=4096, inner=11008, layers=32, heads=32, vocabulary=32000)
LENGTH = 1024
"""Tokens of a sequence."""
NODE = Machine(flops=989e12, utilisation=0.4, bandwidth=450e9)
"""An H100 among eight of one machine, over NVLink."""
CLUSTER = Machine(flops=989e12, utilisation=0.4, bandwidth=50e9)
"""The same among several machines, with 400 Gbit/s for each GPU."""


def plan() -> str:
    """Return the table of the 7B backbone on 8 and on 64 GPUs."""
    lines = [
        "| GPUs | | activations twice | weights, gradients, moments | whole for a while | activations | sum | computing "
        "| sending |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for processes, machine in ((8, NODE), (64, CLUSTER)):
        for shard in (False, True):
            for checkpointing in (False, True):
                setup = Setup(processes, shard, checkpointing)
                parts = (states, buffers, activations, memory)
                sizes = [f"{part(SEVEN_BILLION, setup) / GB:.1f} GB" for part in parts]
                seconds = computing(SEVEN_BILLION, setup, machine, LENGTH)
                sending = sent(SEVEN_BILLION, setup) / machine.bandwidth
                name, often = ("`gpu=fsdp`", "pass") if shard else ("`gpu=ddp`", "step")
                twice = "yes" if checkpointing else "no"
                cells = [str(processes), name, twice, *sizes, f"{seconds:.2f} s a pass", f"{sending:.2f} s a {often}"]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
