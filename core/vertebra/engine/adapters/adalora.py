"""AdaLoRA (Zhang and others, "Adaptive budget allocation for parameter-efficient fine-tuning", ICLR 2023).

The layers and the format are peft's. Which ranks stay is decided here, from buffers that a checkpoint holds: peft's own
allocator keeps what it knows outside of the model, and a resumed run would decide otherwise.

Letters: M matrices, R first rank of each, I inputs of a matrix, O its outputs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vertebra.config.adapters import AdaLoRAConfig
from vertebra.engine.adapters.by_peft import NAME, PeftAdapter, inject, targets, transposed
from vertebra.engine.backbone import Backbone

SMOOTHING = 0.85
"""Of sensitivity and of its uncertainty, β₁ and β₂ of the paper."""
ROUNDS = 100
"""How often in a run ranks are chosen anew, at most."""


class Importance(nn.Module):
    """How much the loss depends on each entry of the factors, smoothed over the steps, and which ranks are left."""

    def __init__(self, factors: Iterable[tuple[nn.Parameter, nn.Parameter, nn.Parameter]]) -> None:
        """Take for each of the M matrices its factors: (R, I), (R, 1) and (O, R)."""
        super().__init__()
        self._factors = tuple(factors)  # a tuple's parameters are not this module's
        for number, parameter in enumerate(self._parameters_in_order()):
            self.register_buffer(f"sensitivity_{number}", torch.zeros_like(parameter, requires_grad=False))
            self.register_buffer(f"uncertainty_{number}", torch.zeros_like(parameter, requires_grad=False))
        device = self._factors[0][1].device
        self.left_MR: Tensor
        self.register_buffer("left_MR", torch.ones(self.shape, dtype=torch.bool, device=device))

    @property
    def shape(self) -> tuple[int, int]:
        """M and R."""
        return len(self._factors), len(self._factors[0][1])

    def _parameters_in_order(self) -> list[nn.Parameter]:
        return [parameter for factors in self._factors for parameter in factors]

    @torch.no_grad()
    def add_step(self) -> None:
        """Take in the gradients of a step."""
        for number, parameter in enumerate(self._parameters_in_order()):
            assert parameter.grad is not None
            sensitivity, uncertainty = self._of(number)
            now = (parameter * parameter.grad).abs()
            sensitivity.lerp_(now, 1 - SMOOTHING)
            uncertainty.lerp_((now - sensitivity).abs(), 1 - SMOOTHING)

    @torch.no_grad()
    def choose(self, budget: int) -> None:
        """Leave the `budget` most important ranks of all matrices."""
        scores = [torch.mul(*self._of(number)) for number in range(3 * len(self._factors))]
        scores_MR = torch.stack(
            [
                middle.squeeze(1) + left.mean(dim=1) + right.mean(dim=0)
                for left, middle, right in zip(scores[0::3], scores[1::3], scores[2::3], strict=True)
            ]
        )
        kept = scores_MR.flatten().topk(budget).indices
        self.left_MR.view(-1).fill_(False).index_fill_(0, kept, True)

    @torch.no_grad()
    def mask(self) -> None:
        """Take the ranks that are not left out of their matrices."""
        for (_, middle_R1, _), left_R in zip(self._factors, self.left_MR, strict=True):
            middle_R1.masked_fill_(~left_R[:, None], 0.0)

    def distance_from_orthogonal(self) -> Tensor:
        """Return the mean over the outer factors of how far their ranks are from orthonormal."""
        squares = [square for left, _, right in self._factors for square in (left @ left.T, right.T @ right)]
        return torch.stack([torch.dist(one, torch.eye(len(one), device=one.device)) for one in squares]).mean()

    def _of(self, number: int) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"sensitivity_{number}"), self.get_buffer(f"uncertainty_{number}")


class AdaLoRAAdapter(PeftAdapter):
    """LoRA whose ranks move to the matrices where they matter. Those that left are zeros on disk."""

    def __init__(self, backbone: Backbone, model: Any, config: AdaLoRAConfig) -> None:
        super().__init__(backbone, model)
        self.config = config
        layers = [module for module in backbone.model.modules() if NAME in getattr(module, "lora_E", ())]
        backbone.state = Importance((one.lora_A[NAME], one.lora_E[NAME], one.lora_B[NAME]) for one in layers)
        self._importance = backbone.state

    def penalty(self) -> Tensor:
        """Return what keeps the factors orthogonal."""
        return self.config.orthogonality * self._importance.distance_from_orthogonal()

    def step_ended(self, step: int, total: int) -> None:
        """Cut ranks, fewer and fewer: a cubic from the first rank to the last one."""
        first, last = round(self.config.begin * total), total - round(self.config.end * total)
        if step <= last:
            self._importance.add_step()
        if first < step <= last and ((step - first) % max(1, total // ROUNDS) == 0 or step == last):
            matrices, first_rank = self._importance.shape
            remaining = (1 - (step - first) / (last - first)) ** 3
            cut = int(matrices * (first_rank - self.config.rank) * remaining)
            self._importance.choose(matrices * self.config.rank + cut)
        self._importance.mask()


def adalora(backbone: Backbone, config: AdaLoRAConfig) -> Backbone:
    """Add a product of three factors to each matrix, whose ranks are cut where they matter least."""
    from peft import AdaLoraConfig

    settings = AdaLoraConfig(
        init_r=config.first_rank,
        target_r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets(config.targets),
        fan_in_fan_out=transposed(backbone),
        total_step=1,  # peft's own allocator is not asked
    )
    backbone.adapter = AdaLoRAAdapter(backbone, inject(backbone, config, settings), config)
    return backbone
