"""The trainer: one loss however a step is cut, hooks in their order, early stopping, errors that name examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as tiny
import torch
from torch import Tensor, nn

from vertebra.config.schema import BackboneConfig, GPUConfig, TrainerConfig
from vertebra.engine.backbone import Backbone, BackboneInfo
from vertebra.engine.checkpoints import Checkpoints, is_whole
from vertebra.engine.devices import set_up
from vertebra.engine.evaluate import Evaluation, evaluate
from vertebra.engine.members import Member
from vertebra.engine.model import TaskModel
from vertebra.engine.packing import PackedBatch
from vertebra.engine.probes import choose_layers, choose_packing
from vertebra.engine.task_weights import weigh
from vertebra.engine.trainer import Trainer
from vertebra.errors import ConfigError, RunError
from vertebra.host.hookspecs import hookimpl
from vertebra.host.manager import Host, create_behaviour_manager, create_host
from vertebra.metrics.metric import Mean
from vertebra.tasks.features import Features
from vertebra.tasks.task import Task


class Parity(Task):
    """Say of each token whether its number is odd."""

    name = "parity"
    columns = {"ids": list}
    metrics = ("accuracy",)

    def encode(self, row: dict[str, Any], tokenizer: Any) -> Features:
        ids = row["ids"]
        return Features(ids, target=[one % 2 for one in ids], positions=range(len(ids)))

    def build_head(self, width: int) -> nn.Module:
        return nn.Linear(width, 2)

    def loss(self, outputs_P2: Tensor, targets_P: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs_P2, targets_P)

    def decode(self, outputs_P2: Tensor, batch: PackedBatch) -> list[list[int]]:
        return [part.tolist() for part in outputs_P2.argmax(dim=1).split(list(batch.position_counts))]

    def reference(self, row: dict[str, Any]) -> list[int]:
        return [one % 2 for one in row["ids"]]


class Accuracy(Mean):
    name = "accuracy"

    def value(self, prediction: Any, reference: Any) -> float:
        return float(np.mean(np.asarray(prediction) == np.asarray(reference)))


def rows_of(count: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    return [{"id": f"r{n}", "ids": generator.integers(1, 97, generator.integers(1, 20)).tolist()} for n in range(count)]


def make_trainer(
    folder: Path,
    config: TrainerConfig,
    *,
    host: Host | None = None,
    family: str = "gpt2",
    packing: str = "auto",
    budget: int = 4096,
    rows: Sequence[dict[str, Any]] | None = None,
    scores: Callable[[], float] | None = None,
    task: Task | None = None,
    gpu: GPUConfig = GPUConfig(device="cpu", precision="fp32", threads=1),  # noqa: B008  # it is frozen
) -> Trainer:
    host = host or create_host()
    task, rows = task or Parity(), rows or rows_of(24)
    model = tiny.model(family)
    packed, notes = choose_packing(model, BackboneConfig(packing=packing), "causal")  # type: ignore[arg-type]
    layers, _ = choose_layers(model, packed, "causal")
    info = BackboneInfo(family, 0, "random", "causal", packed, layers, tiny.CONTEXT, "", notes)
    torch.manual_seed(0)
    whole = TaskModel(Backbone(model, None, info), {task.name: task.build_head(32)})  # type: ignore[arg-type]
    features = [task.encode(row, None) for row in rows]  # type: ignore[arg-type]
    numbered = [Features(one.input_ids, one.target, one.positions, example=n) for n, one in enumerate(features)]  # type: ignore[union-attr]
    devices = set_up(replace(gpu, token_budget=budget))
    whole.to(devices.accelerator.device)

    def measure() -> Evaluation:
        found = evaluate(whole, task, "valid", rows, numbered, [Accuracy()], devices)
        if scores is not None:
            found.scores["accuracy"] = scores()
        return found

    return Trainer(
        whole,
        [Member(task, [[one] for one in numbered], [row["id"] for row in rows], measure)],
        config,
        devices,
        Checkpoints(folder, config.keep_checkpoints),
        host,
        create_behaviour_manager(host, config.behaviours),
        seed=3,
    )


SHORT = TrainerConfig(learning_rate=1e-3, epochs=2.0, warmup=0.1, batch_size=8)


def gradients(trainer: Trainer) -> tuple[float, Tensor]:
    examples = trainer._examples(0)
    features = [one for example in examples for one in example]
    loss = float(trainer._accumulate(0, features, weigh(examples, [1.0]))[0])
    return loss, torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])


def test_a_steps_loss_is_the_same_however_it_is_cut(tmp_path: Path) -> None:
    whole_loss, whole = gradients(make_trainer(tmp_path, SHORT))
    features = make_trainer(tmp_path, SHORT).examples
    assert len({len(one[0]) for one in features}) > 5  # or the cut would be an easy one
    for packing, budget in (("auto", 25), ("auto", 1), ("padded", 4096), ("padded", 40)):
        loss, parts = gradients(make_trainer(tmp_path, SHORT, packing=packing, budget=budget))
        assert loss == pytest.approx(whole_loss, rel=1e-6)
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-7)


def test_it_learns_and_keeps_the_best_weights(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, TrainerConfig(learning_rate=1e-2, epochs=30.0, warmup=0.1, batch_size=8))
    trainer.fit()
    assert trainer.progress.best_score is not None and trainer.progress.best_score > 0.95
    evaluate = trainer.members[0].evaluate
    assert evaluate is not None
    assert evaluate().scores["accuracy"] == trainer.progress.best_score


def test_training_twice_gives_the_same_bits(tmp_path: Path) -> None:
    ends = []
    for name in ("a", "b"):
        trainer = make_trainer(tmp_path / name, SHORT)
        trainer.fit()
        ends.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    assert torch.equal(*ends)


def test_the_hooks_of_a_run_fire_in_this_order(tmp_path: Path) -> None:
    fired: list[str] = []

    class Watcher:
        @hookimpl
        def epoch_started(self, epoch: int) -> None:
            fired.append(f"epoch_started {epoch}")

        @hookimpl
        def step_started(self, step: int) -> None:
            fired.append(f"step_started {step}")

        @hookimpl
        def step_ended(self, step: Any) -> None:
            fired.append(f"step_ended {step.step}")

        @hookimpl
        def evaluation_ended(self, evaluation: Any) -> None:
            fired.append(f"evaluation_ended {evaluation.split} {evaluation.step}")

        @hookimpl
        def checkpoint_saved(self, step: int, path: str) -> None:
            assert is_whole(Path(path))
            fired.append(f"checkpoint_saved {step}")

    class Behaviour:
        @hookimpl
        def training_started(self) -> None:
            fired.append("training_started")

        @hookimpl
        def forward_starting(self) -> None:
            fired.append("forward_starting")

        @hookimpl
        def backward_starting(self) -> None:
            fired.append("backward_starting")

        @hookimpl
        def backward_ended(self, compute_loss: Callable[[], Tensor]) -> None:
            assert compute_loss().requires_grad
            fired.append("backward_ended")

        @hookimpl
        def step_ending(self) -> None:
            fired.append("step_ending")

    host = create_host()
    host.manager.register(Watcher())
    trainer = make_trainer(tmp_path, SHORT, host=host, rows=rows_of(16))
    manager = create_behaviour_manager(host, ())
    manager.register(Behaviour())
    trainer.behaviours = manager.hook
    trainer.fit()

    piece = ["forward_starting", "backward_starting", "backward_ended", "step_ending"]
    step = [["step_started " + str(n), *piece, "step_ended " + str(n + 1)] for n in range(4)]
    assert fired == [
        "training_started",
        "epoch_started 0",
        *step[0],
        *step[1],
        "evaluation_ended valid 2",
        "checkpoint_saved 2",
        "epoch_started 1",
        *step[2],
        *step[3],
        "evaluation_ended valid 4",
        "checkpoint_saved 4",
    ]


def test_it_stops_when_patience_is_out_and_keeps_what_it_should(tmp_path: Path) -> None:
    falling = iter([0.5, 0.4, 0.3, 0.2, 0.1])
    config = TrainerConfig(
        learning_rate=1e-3, epochs=5.0, warmup=0.0, batch_size=8, evaluate_every=1, patience=2, keep_checkpoints=1
    )
    trainer = make_trainer(tmp_path, config, scores=lambda: next(falling))
    trainer.fit()
    assert (trainer.progress.step, trainer.progress.best_step) == (3, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-00000001", "step-00000003"]
    assert all(is_whole(path) for path in tmp_path.iterdir())


def test_a_loss_that_is_not_finite_names_step_and_examples(tmp_path: Path) -> None:
    class Breaks(Parity):
        def loss(self, outputs_P2: Tensor, targets_P: Tensor) -> Tensor:
            return outputs_P2.sum() * float("nan")

    trainer = make_trainer(tmp_path, SHORT, task=Breaks())
    with pytest.raises(RunError, match=r"loss of step 1 is not finite; examples r\d+, r\d+"):
        trainer.fit()


def test_an_unknown_metric_is_refused_before_training(tmp_path: Path) -> None:
    config = TrainerConfig(learning_rate=1e-3, epochs=1.0, warmup=0.0, metric="acuracy")
    with pytest.raises(ConfigError, match="Did you mean 'accuracy'"):
        make_trainer(tmp_path, config)


def test_a_flipped_byte_in_a_checkpoint_is_seen(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, SHORT)
    place = trainer.checkpoints.save(1, trainer.model, trainer.optimizer, asdict(trainer.progress))
    assert is_whole(place)
    file = place / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert not is_whole(place)
    file.unlink()
    assert not is_whole(place)
