"""The settings of the core's adapters; each has a dataclass, whose fields are overridden as `adapter.FIELD=VALUE`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt

from vertebra.config.schema import AdapterConfig, Fraction, Positive

FROZEN = "frozen"
"""The adapter that trains nothing of the backbone: `backbone.freeze=true` by another name."""

Targets = Literal["attention", "all"] | tuple[str, ...]


@dataclass(frozen=True)
class LoRAConfig(AdapterConfig):
    """LoRA (Hu and others, 2021), and its variants DoRA (Liu and others, 2024) and rsLoRA (Kalajdzievski, 2023)."""

    name: str = "lora"
    """lora, dora or rslora."""
    rank: Positive = 8
    """The rank of what is added to each matrix."""
    alpha: Annotated[float, Gt(0)] = 16.0
    """What is added is scaled by alpha / rank; with rslora by alpha / √rank."""
    dropout: Fraction = 0.0
    """The share of a matrix's inputs that is dropped on their way to what is added."""
    targets: Targets = "all"
    """Which matrices: all of the layers, those of attention that peft adapts in this family, or the ends of their names."""

    @property
    def rate_scale(self) -> float:
        """Keep what a step changes in a matrix as large as with the default rank and alpha.

        Under Adam every number of the second factor moves by about the rate, and those of all ranks towards the same
        end: the change is as rate · rank · alpha / rank, with rslora as rate · rank · alpha / √rank.
        """
        same = LoRAConfig()
        return same.alpha / self.alpha * (math.sqrt(same.rank / self.rank) if self.name == "rslora" else 1.0)


@dataclass(frozen=True)
class AdaLoRAConfig(AdapterConfig):
    """AdaLoRA (Zhang and others, 2023): ranks move in training to the matrices where they matter."""

    name: str = "adalora"
    rank: Positive = 8
    """The mean rank of all matrices in the end."""
    first_rank: Positive = 12
    """The rank of every matrix in the beginning."""
    alpha: Annotated[float, Gt(0)] = 16.0
    """What is added is scaled by alpha / rank."""
    dropout: Fraction = 0.0
    """The share of a matrix's inputs that is dropped on their way to what is added."""
    targets: Targets = "all"
    """Which matrices, as for lora."""
    begin: Fraction = 0.1
    """The share of the steps before ranks move."""
    end: Fraction = 0.3
    """The share of the steps, the last ones, in which ranks stay."""
    orthogonality: Annotated[float, Gt(0)] = 0.1
    """The weight in the loss of how far the factors are from orthogonal."""

    @property
    def rate_scale(self) -> float:
        """Keep what a step changes in a matrix as large as with the default alpha, as with lora."""
        return AdaLoRAConfig().alpha / self.alpha

    def __post_init__(self) -> None:
        """Refuse ranks that would have to grow, and a schedule without steps in which they move."""
        if self.first_rank < self.rank:
            raise ValueError("first_rank must be at least rank")
        if self.begin + self.end >= 1:
            raise ValueError("begin and end must leave steps in which ranks move: their sum must be below 1")


@dataclass(frozen=True)
class PrefixConfig(AdapterConfig):
    """Prefix tuning (Li and Liang, 2021): learnt keys and values that every layer attends to."""

    name: str = "prefix"
    tokens: Positive = 16
    """How many; the context is shorter by as many."""

    @property
    def context(self) -> int:
        """The tokens of the context that the adapter takes."""
        return self.tokens


@dataclass(frozen=True)
class BottleneckConfig(AdapterConfig):
    """Bottleneck adapters (Houlsby and others, 2019), one behind each feed-forward part (Pfeiffer and others, 2021)."""

    name: str = "bottleneck"
    width: Positive = 32
    """The inner width."""


@dataclass(frozen=True)
class TopLayersConfig(AdapterConfig):
    """The uppermost layers, and the norm behind them."""

    name: str = "top_layers"
    layers: Positive = 2
    """How many layers are trained."""
