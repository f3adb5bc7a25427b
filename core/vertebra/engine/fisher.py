"""How much each weight of a backbone matters to a task: the diagonal of the empirical Fisher information."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from vertebra.engine.devices import Devices
from vertebra.engine.model import TaskModel
from vertebra.engine.packing import cut, pack
from vertebra.engine.plan import piece_seed
from vertebra.engine.seeds import seed_draws
from vertebra.engine.token_budget import memory_for
from vertebra.tasks.features import Features
from vertebra.tasks.task import Task


def fisher_diagonal(
    model: TaskModel, task: Task, examples: Sequence[Sequence[Features]], devices: Devices
) -> dict[str, Tensor]:
    """Return F_i = (1/E) Σₑ (∂Lₑ/∂w_i)² of each weight of the backbone, in fp32, by the names of its parameters.

    Lₑ is what the task's loss comes to on row e alone: the sum over the targets of all its sequences, by the labels that the
    row has and not by ones that the model draws (the empirical Fisher information; Kunstner, Hennig and Balles 2019 say what
    that leaves out). It is the loss of training, without dropout. Each row is a backward pass of its own; several processes
    share the rows. The weights are those of `model`, which becomes fp32 and is left without gradients.
    """
    accelerator = devices.accelerator
    _read_as_in_training(model.float())
    named = dict(model.backbone.named_parameters())
    squares = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    for number in range(accelerator.process_index, len(examples), accelerator.num_processes):
        model.zero_grad(set_to_none=True)
        devices.budget.until_it_fits(
            partial(_add_gradients, model, task, examples[number], number, devices),
            again=partial(model.zero_grad, set_to_none=True),
            name=lambda piece: f"row {piece[0].example + 1}",
        )
        for name, parameter in named.items():
            if parameter.grad is not None:
                squares[name].addcmul_(parameter.grad, parameter.grad)
    model.zero_grad(set_to_none=True)
    if accelerator.num_processes > 1:
        squares = {name: accelerator.reduce(one, "sum") for name, one in squares.items()}
    return {name: one.div_(len(examples)) for name, one in squares.items()}


def _read_as_in_training(model: TaskModel) -> None:
    """Switch dropout off, and nothing else: some heads compute a loss with gradients in training alone."""
    model.eval()
    for head in model.heads.values():
        for module in head.modules():
            module.train(not isinstance(module, nn.Dropout))


def _add_gradients(model: TaskModel, task: Task, example: Sequence[Features], number: int, devices: Devices) -> None:
    """Add the gradients of one row's loss, in as many passes as the token budget asks for."""
    device = devices.accelerator.device
    pieces = cut(example, devices.budget.tokens, padded=model.backbone.info.packing == "padded")
    for place, piece in enumerate(pieces):
        if not any(one.n_targets for one in piece):
            continue
        seed = piece_seed(0, number, 0, place)
        seed_draws(seed, device)
        with memory_for(piece):
            batch = pack(task.complete(piece, seed), task.collate).to(device)
            assert batch.targets is not None
            loss = task.loss(model(batch, task.name), batch.targets) * batch.n_targets
            loss.backward()  # type: ignore[no-untyped-call]
