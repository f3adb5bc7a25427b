"""AdamW that gives an embedding's unused rows no work.

Most rows of an embedding never occur in a training split. Their gradient is zero, so they have no moments and do not move;
with a gradient that holds the batch's rows alone (`torch.sparse_coo`) and moments for the rows of the split alone, the
others cost neither time nor memory, and the result is the same. Weight decay would move them; embeddings have none here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw as update


class AdamW(torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter, 2019), fused into one kernel, which also takes gradients of single rows."""

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, betas=betas, eps=eps, fused=True)
        self._rows: dict[nn.Parameter, Tensor] = {}
        self._buffers: dict[nn.Parameter, tuple[Tensor, Tensor]] = {}
        """For the gradients of these rows, zero between steps, and for their weights; as large ones are costly to get."""

    def take_rows(self, parameter: nn.Parameter, rows_U: Tensor) -> bool:
        """Expect sparse gradients of a parameter, in these of its rows (sorted) alone; False where decay moves the others."""
        [group] = [group for group in self.param_groups if any(one is parameter for one in group["params"])]
        if group["weight_decay"]:
            return False
        self._rows[parameter] = rows_U
        shape = len(rows_U), *parameter.shape[1:]
        self._buffers[parameter] = (
            torch.zeros(shape, dtype=parameter.dtype, device=parameter.device),
            parameter.new_empty(shape),
        )
        return True

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters by their gradients."""
        assert closure is None
        sparse = {one: one.grad for one in self._rows if one.grad is not None and one.grad.is_sparse}
        for parameter in sparse:
            parameter.grad = None
        super().step()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter in sparse:
                    self._update_rows(parameter, sparse[parameter].coalesce(), group)
                    parameter.grad = sparse[parameter]

    def _update_rows(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        rows_U = self._rows[parameter]
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = (
                parameter.new_zeros(len(rows_U), *parameter.shape[1:]) for _ in "ab"
            )
        gradient_UD, weights_UD = self._buffers[parameter]
        touched = torch.searchsorted(rows_U, gradient.indices()[0])
        gradient_UD.index_copy_(0, touched, gradient.values())
        torch.index_select(parameter, 0, rows_U, out=weights_UD)
        beta1, beta2 = group["betas"]
        update(
            [weights_UD],
            [gradient_UD],
            [state["exp_avg"]],
            [state["exp_avg_sq"]],
            [],
            [state["step"]],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )
        parameter.index_copy_(0, rows_U, weights_UD)
        gradient_UD.index_fill_(0, touched, 0)
