"""Several tasks in one step: their loss and gradients, what sampling draws, who leaves, and what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_trainer import Accuracy, Parity, rows_of
from torch import Tensor, nn

from vertebra.config.schema import BackboneConfig, GPUConfig, TrainerConfig
from vertebra.engine.backbone import Backbone, BackboneInfo
from vertebra.engine.checkpoints import Checkpoints
from vertebra.engine.devices import set_up
from vertebra.engine.evaluate import Evaluation, evaluate
from vertebra.engine.members import MEAN, Member, mean_score
from vertebra.engine.model import TaskModel
from vertebra.engine.packing import PackedBatch, pack, pack_tasks
from vertebra.engine.plan import Plan, draws_of
from vertebra.engine.probes import choose_layers, choose_packing
from vertebra.engine.task_weights import UncertaintyWeighting, weigh
from vertebra.engine.trainer import Trainer
from vertebra.errors import StoppedError
from vertebra.host.hookspecs import hookimpl
from vertebra.host.manager import create_behaviour_manager, create_host
from vertebra.tasks.features import Features
from vertebra.tasks.heads import BatchHead
from vertebra.tasks.task import Task


class MeanHead(BatchHead):
    """A linear layer over the mean of each sequence's positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 1)

    def forward(self, hidden_PD: Tensor, batch: PackedBatch) -> Tensor:
        means = [part.mean(dim=0) for part in hidden_PD.split(list(batch.position_counts))]
        outputs: Tensor = self.layer(torch.stack(means))
        return outputs


class Larger(Task):
    """Say of a sequence whether its first number is above 48: one target, a head that pools."""

    name = "larger"
    columns = {"ids": list}
    metrics = ("accuracy",)

    def encode(self, row: dict[str, Any], tokenizer: Any) -> Features:
        return Features(row["ids"], target=float(row["ids"][0] > 48), positions=range(len(row["ids"])))

    def build_head(self, width: int) -> nn.Module:
        return MeanHead(width)

    def loss(self, outputs_N1: Tensor, targets_N: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(outputs_N1.squeeze(1), targets_N)

    def decode(self, outputs_N1: Tensor, batch: PackedBatch) -> list[int]:
        return [int(one > 0) for one in outputs_N1.squeeze(1).tolist()]

    def reference(self, row: dict[str, Any]) -> int:
        return int(row["ids"][0] > 48)


ROWS = {"parity": rows_of(30)[:18], "larger": rows_of(30)[18:]}
SHORT = TrainerConfig(learning_rate=1e-3, epochs=2.0, warmup=0.1, batch_size=8)


def make_trainer(
    folder: Path,
    config: TrainerConfig = SHORT,
    *,
    packing: str = "auto",
    budget: int = 4096,
    weights: Sequence[float] = (1.0, 1.0),
    scores: Callable[[str], float] | None = None,
    host: Any = None,
    stop: Callable[[], bool] = lambda: False,
) -> Trainer:
    host, tasks = host or create_host(), [Parity(), Larger()]
    model = tiny.model("gpt2")
    packed, notes = choose_packing(model, BackboneConfig(packing=packing), "causal")  # type: ignore[arg-type]
    layers, _ = choose_layers(model, packed, "causal")
    info = BackboneInfo("gpt2", 0, "random", "causal", packed, layers, tiny.CONTEXT, "", notes)
    torch.manual_seed(0)
    weighting = UncertaintyWeighting(2) if config.weighting == "uncertainty" else None
    heads = {task.name: task.build_head(32) for task in tasks}
    whole = TaskModel(Backbone(model, None, info), heads, weighting)  # type: ignore[arg-type]
    devices = set_up(GPUConfig(device="cpu", precision="fp32", threads=1, token_budget=budget))

    def member(task: Task, weight: float) -> Member:
        rows = ROWS[task.name]
        features = [replace(task.encode(row, None), example=n) for n, row in enumerate(rows)]  # type: ignore[arg-type, type-var]

        def measure() -> Evaluation:
            found = evaluate(whole, task, "valid", rows, features, [Accuracy()], devices)  # type: ignore[arg-type]
            if scores is not None:
                found.scores["accuracy"] = scores(task.name)
            return found

        return Member(task, [[one] for one in features], [row["id"] for row in rows], measure, weight=weight)  # type: ignore[list-item]

    return Trainer(
        whole,
        [member(task, weight) for task, weight in zip(tasks, weights, strict=True)],
        config,
        devices,
        Checkpoints(folder, config.keep_checkpoints),
        host,
        create_behaviour_manager(host, config.behaviours),
        seed=3,
        stop=stop,
    )


def one_step(trainer: Trainer) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the losses and the gradients of the first step."""
    examples = trainer._examples(0)
    weights = weigh(examples, [member.weight for member in trainer.members])
    losses = trainer._accumulate(0, [one for example in examples for one in example], weights)
    return losses, {name: one.grad for name, one in trainer.model.named_parameters() if one.grad is not None}


def reference_step(trainer: Trainer) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the same, each sequence read alone by transformers' own model and each task by itself."""
    model, examples = trainer.model, trainer._examples(0)
    model.zero_grad()
    plain, losses, weights = tiny.model("gpt2"), [], []
    plain.load_state_dict(model.backbone.model.state_dict())
    plain.eval()
    for number, member in enumerate(trainer.members):
        own = [one for example in examples for one in example if one.member == number]
        assert len(own) >= 2
        head, values = model.heads[member.task.name], []
        for one in own:
            hidden_PD = plain(torch.from_numpy(one.input_ids)[None].long()).last_hidden_state[0]
            batch = pack([one], member.task.collate)
            outputs = head(hidden_PD, batch) if isinstance(head, BatchHead) else head(hidden_PD)
            assert batch.targets is not None
            values.append(member.task.loss(outputs, batch.targets) * one.n_targets)
        loss = torch.stack(values).sum() / sum(one.n_targets for one in own)
        if model.weighting is not None:
            log_variance = model.weighting.log_variances[number]
            loss = loss / torch.exp(log_variance) + log_variance / 2
        losses.append(loss)
        weights.append(member.weight * len(own))
    whole = sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / sum(weights)
    assert isinstance(whole, Tensor)
    whole.backward()  # type: ignore[no-untyped-call]
    named = {f"backbone.model.{name}": one.grad for name, one in plain.named_parameters()}
    others = {name: one.grad for name, one in model.named_parameters() if not name.startswith("backbone.")}
    return whole.detach(), {name: one for name, one in (named | others).items() if one is not None}


@pytest.mark.parametrize(
    ("packing", "budget", "weights", "weighting"),
    [
        ("auto", 4096, (1.0, 1.0), "fixed"),
        ("auto", 4096, (1.0, 3.5), "fixed"),
        ("auto", 25, (2.0, 0.5), "fixed"),
        ("auto", 1, (1.0, 1.0), "uncertainty"),
        ("padded", 60, (1.0, 2.0), "uncertainty"),
    ],
)
def test_a_mixed_step_is_the_tasks_read_one_by_one(
    packing: str, budget: int, weights: tuple[float, float], weighting: Any, tmp_path: Path
) -> None:
    config = replace(SHORT, weighting=weighting)
    trainer = make_trainer(tmp_path, config, packing=packing, budget=budget, weights=weights)
    if trainer.model.weighting is not None:
        with torch.no_grad():
            trainer.model.weighting.log_variances.copy_(torch.tensor([0.4, -0.7]))
    losses, found = one_step(trainer)
    found = {name: one.to_dense().clone() for name, one in found.items()}
    expected_loss, expected = reference_step(trainer)
    assert float(losses[0]) == pytest.approx(float(expected_loss), rel=1e-6)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_the_backbone_makes_one_pass_for_all_tasks_and_heads_read_their_own_positions(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    features = [one for example in trainer._examples(0) for one in example]
    batch = pack_tasks(features, [member.task.collate for member in trainer.members])
    passes: list[int] = []
    trainer.model.backbone.register_forward_pre_hook(lambda *_: passes.append(1))
    with torch.no_grad():
        found = trainer.model.eval().outputs(batch, trainer.tasks)
        assert len(passes) == 1 and batch.targets is None and batch.n_tokens == sum(map(len, features))
        for number, part, outputs in found:
            own = [one for one in features if one.member == number]
            alone = pack(own, trainer.members[number].task.collate)
            assert part.features == alone.features and part.position_counts == alone.position_counts
            torch.testing.assert_close(part.targets, alone.targets)
            torch.testing.assert_close(outputs, trainer.model(alone, trainer.tasks[number]), rtol=1e-5, atol=1e-6)


sizes_of_tasks = st.lists(st.integers(1, 60), min_size=2, max_size=5)


@given(sizes_of_tasks, st.sampled_from(["temperature", "uniform"]), st.floats(1, 20), st.integers(0, 2**32))
def test_sampling_draws_what_it_says_and_every_example_as_often(
    sizes: list[int], sampling: Any, temperature: float, seed: int
) -> None:
    draws = draws_of(sizes, sampling, temperature)
    assert sum(draw.quota for draw in draws) == sum(sizes) and min(draw.quota for draw in draws) >= 1
    wanted = np.asarray(sizes, dtype=float) ** (0 if sampling == "uniform" else 1 / temperature)
    wanted *= sum(sizes) / wanted.sum()
    if wanted.min() >= 1:
        assert max(abs(draw.quota - want) for draw, want in zip(draws, wanted, strict=True)) < 1 + 1e-9
    plan = Plan(sum(sizes), 7, seed, draws)
    starts = np.cumsum([0, *sizes])
    seen: list[int] = []
    for epoch in range(3):
        first = epoch * plan.steps_per_epoch
        steps = range(first, first + plan.steps_per_epoch)
        of_epoch = [int(one) for step in steps for one in plan.examples(step)]
        for draw, low, high in zip(draws, starts, starts[1:], strict=False):
            assert sum(low <= one < high for one in of_epoch) == draw.quota
        seen += of_epoch
    for low, high in pairwise(starts):
        counts = np.bincount([one - low for one in seen if low <= one < high], minlength=high - low)
        assert counts.max() - counts.min() <= 1


def test_proportional_sampling_is_the_plan_of_one_task_with_all_examples() -> None:
    assert draws_of([5, 9], "proportional", 2.0) == ()
    assert Plan(14, 4, 1).examples(5).tolist() == Plan(14, 4, 1, ()).examples(5).tolist()
    near = draws_of([500, 20, 3], "temperature", 1.0)
    assert [draw.quota for draw in near] == [500, 20, 3]


@given(sizes_of_tasks, st.floats(0.01, 0.6), st.sampled_from(["proportional", "uniform"]), st.integers(0, 2**32))
def test_a_share_is_that_of_an_epoch_which_goes_over_the_other_tasks(
    sizes: list[int], share: float, sampling: Any, seed: int
) -> None:
    draws = draws_of(sizes, sampling, 2.0, [share, *(None for _ in sizes[1:])])
    total = sum(draw.quota for draw in draws)
    assert draws[0].quota == max(1, round(share * total)) or abs(draws[0].quota - share * total) < 1
    assert sum(draw.quota for draw in draws[1:]) == sum(sizes[1:])
    assert [draw.size for draw in draws] == sizes
    if sampling == "proportional":
        assert [draw.quota for draw in draws[1:]] == sizes[1:]
    plan = Plan(total, 7, seed, draws)
    own = [int(one) for step in range(plan.steps_per_epoch) for one in plan.examples(step) if one < sizes[0]]
    assert len(own) == draws[0].quota


def test_the_combined_score_knows_directions() -> None:
    assert mean_score([(0.5, True), (0.7, True)]) == (pytest.approx(0.6), True)
    assert mean_score([(0.5, True), (0.2, False)]) == (pytest.approx(0.15), True)
    assert mean_score([(2.0, False), (1.0, False)]) == (1.5, False)
    assert mean_score([(0.1 + 0.2, False)]) == (0.1 + 0.2, False)


def test_a_task_leaves_when_its_own_score_is_stale_and_comes_back(tmp_path: Path) -> None:
    scripted = {"parity": iter([0.5, 0.4, 0.4, 0.6, 0.1, 0.1]), "larger": iter([0.1, 0.15, 0.3, 0.3, 0.2, 0.2])}
    steps: list[dict[str, float]] = []
    evaluations: list[Any] = []

    class Watcher:
        @hookimpl
        def step_ended(self, step: Any) -> None:
            steps.append(dict(step.losses))

        @hookimpl
        def evaluation_ended(self, evaluation: Any) -> None:
            evaluations.append(evaluation)

    host = create_host()
    host.manager.register(Watcher())
    config = replace(SHORT, epochs=10.0, patience=2, evaluate_every=1)
    trainer = make_trainer(tmp_path, config, scores=lambda task: next(scripted[task]), host=host)
    trainer.fit()
    # Step 4 is the only one that `parity` has left; step 4's evaluation is its best, and it is back. After 6 both are stale.
    assert [set(losses) for losses in steps] == [{"parity", "larger"}] * 3 + [{"larger"}] + [
        {"parity", "larger"},
        {"parity"},
    ]
    assert (trainer.progress.step, trainer.progress.best_step) == (6, 4)
    assert trainer.progress.best_score == pytest.approx(0.45)
    assert [evaluation.best for evaluation in evaluations] == [True, False, True, True, False, False]
    assert list(evaluations[3].scores) == [MEAN, "parity.accuracy", "larger.accuracy"]
    assert evaluations[3].tasks["larger"].scores == {"accuracy": 0.3} and not evaluations[3].tasks["larger"].best


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_a_stopped_run_goes_on_to_the_same_bits(weighting: Any, tmp_path: Path) -> None:
    config = replace(SHORT, weighting=weighting, sampling="temperature", patience=1, evaluate_every=3)
    whole = make_trainer(tmp_path / "whole", config)
    whole.fit()
    moments = iter([False, False, False, True])
    stopped = make_trainer(tmp_path / "part", config, stop=lambda: next(moments))
    with pytest.raises(StoppedError):
        stopped.fit()
    resumed = make_trainer(tmp_path / "part", config)
    resumed.resume()
    assert resumed.progress == stopped.progress and resumed.progress.step == 4
    resumed.fit()
    assert resumed.progress == whole.progress
    for (name, one), other in zip(resumed.model.named_parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other), name
    learnt = whole.model.weighting
    assert (learnt is not None) == (weighting == "uncertainty")
    if learnt is not None:
        assert (learnt.log_variances != 0).all() and learnt.factors() == resumed.model.weighting.factors()  # type: ignore[union-attr]


def test_uncertainty_weighting_finds_the_variance_that_a_loss_asks_for() -> None:
    weighting = UncertaintyWeighting(2)
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        (weighting(0, torch.tensor(4.0)) + weighting(1, torch.tensor(0.25))).backward()
        optimizer.step()
    # The minimum of L / σ² + log σ is at σ² = 2 L.
    assert weighting.factors() == pytest.approx([1 / 8, 2.0], rel=1e-3)


def test_an_error_names_the_task_of_a_row(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    named = trainer._ids([one for example in trainer._examples(0) for one in example])
    assert "parity r" in named and "larger r" in named
