"""An adapter for each of several tasks in mixed steps: each task learns what it learns alone, and nothing else moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_mixed_adapters import HOST, TOKENIZER, WAYS, plain
from test_multitask import ROWS, Larger
from test_trainer import Accuracy, Parity
from torch import Tensor

from vertebra.config.options import configure
from vertebra.config.schema import GPUConfig, TrainerConfig
from vertebra.engine.adapters.each import AdapterOfEach
from vertebra.engine.backbone import Layers, Packing
from vertebra.engine.checkpoints import Checkpoints
from vertebra.engine.counting import count_parameters
from vertebra.engine.devices import set_up
from vertebra.engine.evaluate import Evaluation, evaluate
from vertebra.engine.members import Member
from vertebra.engine.packing import pack_tasks
from vertebra.engine.trainer import Trainer
from vertebra.errors import RunError, StoppedError
from vertebra.host.manager import create_behaviour_manager
from vertebra.runs.prepare import build_model
from vertebra.tasks.task import Task

SHORT = TrainerConfig(learning_rate=1e-2, epochs=50.0, max_steps=5, warmup=0.1, batch_size=8, clip=0.05)
BOTH: tuple[type[Task], ...] = (Parity, Larger)


def make_trainer(
    folder: Path,
    tasks: Sequence[type[Task]] = BOTH,
    config: TrainerConfig = SHORT,
    *,
    adapter: str = "lora",
    packing: Packing = "packed",
    layers: Layers = "written out",
    family: str = "gpt2",
    budget: int = 4096,
    stop: Callable[[], bool] = lambda: False,
) -> Trainer:
    """Return a trainer of some tasks, each with its own adapter, over a tiny model that drops nothing."""
    made = [task() for task in tasks]
    run = configure(HOST, task="ner", adapter=adapter, trainer={"adapters": "each"})
    model = build_model(plain(family, packing, layers), made, run, HOST)
    devices = set_up(GPUConfig(device="cpu", precision="fp32", threads=1, token_budget=budget))

    def member(task: Task) -> Member:
        rows = ROWS[task.name]
        features = [replace(task.encode(row, TOKENIZER), example=n) for n, row in enumerate(rows)]  # type: ignore[arg-type, type-var]

        def measure() -> Evaluation:
            return evaluate(model, task, "valid", rows, features, [Accuracy()], devices)  # type: ignore[arg-type]

        return Member(task, [[one] for one in features], [row["id"] for row in rows], measure)  # type: ignore[list-item]

    checkpoints = Checkpoints(folder, config.keep_checkpoints)
    behaviours = create_behaviour_manager(HOST, config.behaviours)
    return Trainer(
        model, [member(one) for one in made], config, devices, checkpoints, HOST, behaviours, seed=3, stop=stop
    )


def own(trainer: Trainer, task: str, of: Callable[[Tensor], Tensor | None] = lambda one: one) -> dict[str, Tensor]:
    """Return what is trained for a task, by the names that it has in a run of that task alone; those that have it."""
    found = {}
    for name, parameter in trainer.model.named_parameters():
        group, _, rest = name.partition(".")
        if group == "adapted" and rest.startswith(f"{task}."):
            name = f"backbone.{rest.removeprefix(f'{task}.')}"
        elif name.startswith("backbone.") and trainer.model.apart:
            continue
        if parameter.requires_grad and name.startswith(("backbone.", f"heads.{task}.")):
            value = of(parameter)
            if value is not None:
                found[name] = value.detach().clone()
    return found


@contextmanager
def gradients_kept(trainer: Trainer, task: str) -> Iterator[list[dict[str, Tensor]]]:
    """Keep the clipped gradients of a task's parameters in each step."""
    kept: list[dict[str, Tensor]] = []
    hook = trainer.optimizer.register_step_pre_hook(lambda *_: kept.append(own(trainer, task, lambda one: one.grad)))
    yield kept
    hook.remove()


def require_equal(found: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 0.0) -> None:
    """Compare each tensor at 1e-5 of its largest number."""
    assert found.keys() == expected.keys() and found
    for name, one in expected.items():
        assert float((found[name] - one).abs().max()) <= 1e-5 * float(one.abs().max()) + atol, name


@pytest.mark.parametrize(
    ("packing", "layers", "budget", "adapter", "family", "optimizer"),
    [
        ("packed", "written out", 4096, "lora", "gpt2", "adamw"),
        ("packed", "written out", 40, "rslora", "llama", "sgd"),
        ("packed", "transformers", 25, "lora", "gpt2", "sgd"),
        ("padded", "transformers", 60, "lora", "gpt2", "adamw"),
    ],
)
def test_each_task_learns_in_mixed_steps_what_it_learns_alone(
    packing: Packing, layers: Layers, budget: int, adapter: str, family: str, optimizer: str, tmp_path: Path
) -> None:
    """Gradients, clipping by each one's norm, and updates, in whole steps and in steps of several passes."""
    assert SHORT.clip is not None
    # Adam divides by the gradients' own size, and so shows how the smallest ones are rounded.
    rate, rounding = (0.5, 0.0) if optimizer == "sgd" else (1e-3, 1e-5)
    config = replace(SHORT, optimizer=optimizer, learning_rate=rate)
    ways: dict[str, Any] = {"packing": packing, "layers": layers, "adapter": adapter, "family": family}
    mixed = make_trainer(tmp_path, config=config, budget=budget, **ways)
    alone = [make_trainer(tmp_path, [task], config, **ways) for task in BOTH]
    before = {name: one.clone() for name, one in mixed.model.backbone.state_dict().items()}
    begun = [own(one, one.tasks[0]) for one in alone]
    for number, one in enumerate(alone):
        require_equal(own(mixed, one.tasks[0]), begun[number])
    for step in range(SHORT.max_steps or 0):
        examples = mixed._examples(step)
        with gradients_kept(mixed, "parity") as parity, gradients_kept(mixed, "larger") as larger:
            mixed._step()
        for number, one in enumerate(alone):
            rows = [[replace(feature, member=0) for feature in row] for row in examples if row[0].member == number]
            assert rows
            one._examples = lambda _, rows=rows: rows  # type: ignore[method-assign, misc]
            with gradients_kept(one, one.tasks[0]) as expected:
                one._step()
            require_equal((parity, larger)[number][0], expected[0], rounding * SHORT.clip)
            norm = torch.stack([gradient.square().sum() for gradient in expected[0].values()]).sum().sqrt()
            assert float(norm) == pytest.approx(SHORT.clip, rel=1e-3), "clipped"
            require_equal(own(mixed, one.tasks[0]), own(one, one.tasks[0]), rounding)
    for number, one in enumerate(alone):
        moved = own(mixed, one.tasks[0])
        assert not any(torch.equal(moved[name], first) for name, first in begun[number].items())
    for name, was in before.items():
        assert torch.equal(mixed.model.backbone.state_dict()[name], was), name


@pytest.mark.parametrize(("packing", "layers"), WAYS)
def test_a_task_is_evaluated_with_its_own_adapter(packing: Packing, layers: Layers, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, packing=packing, layers=layers)
    for _ in range(3):
        trainer._step()
    model = trainer.model.eval()
    features = [one for example in trainer._examples(0) for one in example]
    batch = pack_tasks(features, [member.task.collate for member in trainer.members], apart=True)
    assert [one.member for one in batch.features] == sorted(one.member for one in features), "sorted by adapter"
    with torch.no_grad():
        for number, part, outputs in model.outputs(batch, trainer.tasks):
            task = trainer.tasks[number]
            hidden = {name: model.backbone_of(name)(part) for name in trainer.tasks}
            assert not torch.allclose(hidden["parity"], hidden["larger"], atol=1e-3)
            expected = model._read(task, hidden[task], part)
            torch.testing.assert_close(outputs, expected, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(model(part, task), expected, rtol=1e-5, atol=1e-6)
            with model.backbone.prepacked():
                torch.testing.assert_close(model(part, task), expected, rtol=1e-5, atol=1e-6)


def test_a_task_that_a_step_does_not_have_stays_as_it_is(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer._step()
    rows = {member: [one for one in trainer.examples if one[0].member == member][:3] for member in (0, 1)}
    trainer._examples = lambda _: rows[1]  # type: ignore[method-assign]
    before = {task: own(trainer, task) for task in trainer.tasks}
    trainer._step()
    assert all(torch.equal(one, before["parity"][name]) for name, one in own(trainer, "parity").items())
    assert not any(torch.equal(one, before["larger"][name]) for name, one in own(trainer, "larger").items())


def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    config = replace(SHORT, sampling="temperature", patience=1, evaluate_every=2)
    whole = make_trainer(tmp_path / "whole", config=config)
    whole.fit()
    moments = iter([False, False, True])
    stopped = make_trainer(tmp_path / "part", config=config, stop=lambda: next(moments))
    with pytest.raises(StoppedError):
        stopped.fit()
    resumed = make_trainer(tmp_path / "part", config=config)
    resumed.resume()
    assert resumed.progress == stopped.progress and resumed.progress.step == 3
    resumed.fit()
    assert resumed.progress == whole.progress
    for task in whole.tasks:
        expected = own(whole, task)
        assert all(torch.equal(one, expected[name]) for name, one in own(resumed, task).items())


def test_only_adapters_and_heads_are_saved_and_counted(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    model, alone = trainer.model, make_trainer(tmp_path, [Parity]).model
    trained = [one for task in trainer.tasks for one in model.own_parameters(task)]
    assert {id(one) for one in model.trained.parameters()} == {id(one) for one in trained}
    counts, of_one, expected = count_parameters(model), count_parameters(model, "parity"), count_parameters(alone)
    assert of_one == expected and counts.trained == 2 * expected.trained
    assert counts.backbone - counts.trained == expected.backbone - expected.trained, "the backbone is there once"
    assert counts.head == sum(one.numel() for one in model.heads.parameters())
    rates = {id(one): group["lr"] for group in trainer.optimizer.param_groups for one in group["params"]}
    assert rates.keys() == {id(one) for one in trained}
    adapter = model.backbone.adapter
    assert isinstance(adapter, AdapterOfEach) and adapter.base_weights() is None and not adapter.merges
    adapter.save(tmp_path / "adapter")
    assert alone.backbone.adapter is not None
    for task in trainer.tasks:  # each folder is that of a run of the task alone
        alone.backbone.adapter.load(tmp_path / "adapter" / task)
    with pytest.raises(RunError, match="Cannot read the adapter"):
        alone.backbone.adapter.load(tmp_path / "adapter")


def test_rates_fall_with_the_depth_of_the_layer_as_they_do_alone(tmp_path: Path) -> None:
    config = replace(SHORT, layer_decay=0.5, head_learning_rate=0.3)
    mixed, alone = make_trainer(tmp_path, config=config), make_trainer(tmp_path, [Parity], config)

    def rates(trainer: Trainer) -> dict[str, tuple[float, float]]:
        groups = trainer.optimizer.param_groups
        by_id = {id(one): (group["lr"], group["weight_decay"]) for group in groups for one in group["params"]}
        names = own(trainer, "parity")
        found = own(trainer, "parity", lambda one: torch.tensor(by_id[id(one)]))
        return {name: tuple(found[name].tolist()) for name in names}

    assert rates(mixed) == rates(alone) and len(set(rates(mixed).values())) >= 3
