"""A frozen backbone: the same numbers as with the backbone in the loop, and no pass of it where its states are cached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import tiny_models as tiny
import torch
from test_trainer import Accuracy, Parity, rows_of
from torch import Tensor, nn

import vertebra
from vertebra.config.schema import BackboneConfig, GPUConfig, TrainerConfig
from vertebra.engine.adapters.parts import frozen
from vertebra.engine.backbone import Backbone, BackboneInfo
from vertebra.engine.checkpoints import Checkpoints
from vertebra.engine.devices import Devices, set_up
from vertebra.engine.evaluate import Evaluation, evaluate
from vertebra.engine.frozen import FrozenReader, refuse_behaviours
from vertebra.engine.heads import HeadSettings, train_heads
from vertebra.engine.hidden_cache import HiddenCache
from vertebra.engine.members import Member
from vertebra.engine.model import TaskModel
from vertebra.engine.packing import pack
from vertebra.engine.probes import choose_layers, choose_packing
from vertebra.engine.trainer import Trainer
from vertebra.errors import ConfigError, RunError
from vertebra.host.hookspecs import hookimpl
from vertebra.host.manager import create_behaviour_manager, create_host
from vertebra.tasks.features import Features
from vertebra.tasks.task import Task

HOST = create_host()
ROWS = rows_of(40)
CONFIG = TrainerConfig(learning_rate=3e-2, epochs=4.0, warmup=0.1, batch_size=8)


class DroppingParity(Parity):
    """With the usual head: dropout and a linear layer."""

    def build_head(self, width: int) -> nn.Module:
        return nn.Sequential(nn.Dropout(0.2), nn.Linear(width, 2))


def deep_head(width: int) -> nn.Module:
    """Return a head that cannot share a matrix product."""
    return nn.Sequential(nn.Linear(width, 8), nn.GELU(), nn.Dropout(0.2), nn.Linear(8, 2))


def make_backbone(family: str = "gpt2", packing: str = "auto", seed: int = 0) -> Backbone:
    model = tiny.model(family, seed)
    packed, notes = choose_packing(model, BackboneConfig(packing=packing), "causal")  # type: ignore[arg-type]
    layers, _ = choose_layers(model, packed, "causal")
    info = BackboneInfo(family, 0, "random", "causal", packed, layers, tiny.CONTEXT, family, notes)
    backbone = Backbone(model, None, info)  # type: ignore[arg-type]
    return backbone.requires_grad_(False)


def make_devices(**changes: Any) -> Devices:
    return set_up(replace(GPUConfig(device="cpu", precision="fp32", token_budget=4096, threads=1), **changes))


def make_features(rows: Sequence[dict[str, Any]] = ROWS) -> list[Features]:
    encoded = [Parity().encode(row, None) for row in rows]
    return [replace(one, example=number) for number, one in enumerate(encoded)]


def make_trainer(
    folder: Path,
    features: Sequence[Features],
    backbone: Backbone,
    devices: Devices,
    config: TrainerConfig = CONFIG,
    task: Task | None = None,
) -> Trainer:
    task = task or DroppingParity()
    torch.manual_seed(3)
    model = TaskModel(backbone, {task.name: task.build_head(32)})
    behaviours = create_behaviour_manager(HOST, ())
    return Trainer(
        model,
        [Member(task, [[one] for one in features], [row["id"] for row in ROWS])],
        config,
        devices,
        Checkpoints(folder, 1),
        HOST,
        behaviours,
        seed=3,
    )


def score(model: TaskModel, features: Sequence[Features], devices: Devices) -> Evaluation:
    return evaluate(model, DroppingParity(), "valid", ROWS, features, [Accuracy()], devices)


@contextmanager
def counted_passes() -> Iterator[list[int]]:
    """Count the passes of backbones."""
    passes: list[int] = []
    forward = Backbone.forward

    def counting(self: Backbone, batch: Any) -> Tensor:
        passes.append(len(batch))
        return forward(self, batch)

    with mock.patch.object(Backbone, "forward", counting):
        yield passes


@pytest.mark.parametrize(("family", "packing"), [("gpt2", "auto"), ("llama", "auto"), ("gptj", "padded")])
@pytest.mark.parametrize("budget", [4096, 60])
def test_hidden_states_are_those_of_the_backbone_at_the_positions(
    family: str, packing: str, budget: int, tmp_path: Path
) -> None:
    backbone = make_backbone(family, packing)
    features = make_features()
    features[3] = replace(features[3], positions=features[3].positions[:0], target=[])
    features[5] = replace(features[5], positions=features[5].positions[-1:], target=1)
    devices, plain = make_devices(token_budget=budget), tiny.model(family)
    for cache in (None, HiddenCache(tmp_path)):
        read = FrozenReader(backbone, devices, cache).read(features)
        for before, after in zip(features, read, strict=True):
            with torch.no_grad():
                alone_TD = plain(torch.from_numpy(before.input_ids)[None].long()).last_hidden_state[0]
            assert after.hidden is not None
            expected_PD = alone_TD[torch.from_numpy(before.positions).long()]
            torch.testing.assert_close(torch.tensor(after.hidden), expected_PD, rtol=1e-4, atol=1e-5)
            assert after.target == before.target


def test_training_and_scores_are_those_with_the_backbone_in_the_loop(tmp_path: Path) -> None:
    backbone, devices, features = make_backbone(), make_devices(), make_features()
    with mock.patch.object(Backbone, "train", lambda self, mode=True: self):  # in evaluation mode, as when it is frozen
        in_loop = make_trainer(tmp_path / "in loop", features, backbone.eval(), devices)
        in_loop.fit()
        expected = score(in_loop.model, features, devices)
    read = FrozenReader(backbone, devices, HiddenCache(tmp_path)).read(features)
    frozen = make_trainer(tmp_path / "frozen", read, backbone, devices)
    with counted_passes() as passes:
        frozen.fit()
        found = score(frozen.model, read, devices)
    assert not passes
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)
    assert found.scores == expected.scores and found.predictions == expected.predictions
    torch.testing.assert_close(
        frozen.model.heads.state_dict(), in_loop.model.heads.state_dict(), rtol=1e-4, atol=1e-6, msg="same weights"
    )
    assert score(frozen.model, features, devices).scores == expected.scores, "without hidden states, as in prediction"


def test_dropout_of_the_backbone_is_off_and_its_weights_stay(tmp_path: Path) -> None:
    backbone = make_backbone()
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    backbone.train()
    features, devices = make_features(), make_devices()
    first, second = (FrozenReader(backbone, devices, None).read(features) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.hidden is not None and other.hidden is not None and (one.hidden == other.hidden).all()
    trainer = make_trainer(tmp_path, first, backbone, devices)
    trainer.fit()
    for name, tensor in backbone.model.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(("family", "packing"), [("gpt2", "auto"), ("gpt2", "padded"), ("llama", "auto")])
def test_a_frozen_backbone_that_reads_in_the_steps_drops_nothing_and_records_nothing(family: str, packing: str) -> None:
    backbone = make_backbone(family, packing).requires_grad_(True)
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
        elif hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    batch = pack(make_features(), lambda _: None)
    expected = backbone.eval()(batch)
    model = TaskModel(frozen(backbone, None), {}).train()
    assert model.training and not any(module.training for module in backbone.modules())
    hidden = backbone(batch)
    torch.testing.assert_close(hidden, expected.detach(), rtol=1e-5, atol=1e-6)
    assert expected.requires_grad and not hidden.requires_grad


def test_the_cache_knows_backbones_features_and_devices_apart(tmp_path: Path) -> None:
    features = make_features()
    other_positions = [replace(one, positions=one.positions[-1:], target=1) for one in features]
    readings = [
        (make_backbone(), make_devices(), features),
        (make_backbone(seed=1), make_devices(), features),
        (make_backbone(packing="padded"), make_devices(), features),
        (make_backbone(), make_devices(precision="bf16"), features),
        (make_backbone(), make_devices(), other_positions),
        (make_backbone(), make_devices(), features[1:]),
    ]
    for backbone, devices, given in readings:
        with counted_passes() as passes:
            FrozenReader(backbone, devices, HiddenCache(tmp_path)).read(given)
        assert passes, "this is none of those before"
    for backbone, devices, given in readings:
        with counted_passes() as passes:
            FrozenReader(backbone, devices, HiddenCache(tmp_path)).read(given)
        assert not passes


@pytest.mark.parametrize(("training", "evaluation"), [("bf16", "fp32"), ("fp32", "bf16")])
def test_what_is_evaluated_is_read_in_the_precision_of_evaluation(
    training: str, evaluation: str, tmp_path: Path
) -> None:
    backbone, features = make_backbone(), make_features()
    reader = FrozenReader(
        backbone, make_devices(precision=training, evaluation_precision=evaluation), HiddenCache(tmp_path)
    )
    for precision, for_evaluation in ((training, False), (evaluation, True)):
        expected = FrozenReader(backbone, make_devices(precision=precision), None).read(features)
        for found, one in zip(reader.read(features, for_evaluation=for_evaluation), expected, strict=True):
            assert found.hidden is not None and one.hidden is not None and (found.hidden == one.hidden).all()


def test_a_change_of_one_weight_is_seen(tmp_path: Path) -> None:
    backbone, devices, features = make_backbone(), make_devices(), make_features()
    FrozenReader(backbone, devices, HiddenCache(tmp_path)).read(features)
    with torch.no_grad():
        next(backbone.parameters())[-1, -1] += 1e-3
    with counted_passes() as passes:
        FrozenReader(backbone, devices, HiddenCache(tmp_path)).read(features)
    assert passes


def test_only_the_head_is_in_a_checkpoint(tmp_path: Path) -> None:
    backbone, devices = make_backbone(), make_devices()
    read = FrozenReader(backbone, devices, None).read(make_features())
    trainer = make_trainer(tmp_path, read, backbone, devices)
    trainer.fit()
    trainer._save()
    (file,) = tmp_path.rglob("model.safetensors")
    assert file.stat().st_size < 2000
    again = make_trainer(tmp_path, read, backbone, devices)
    again.resume()
    assert again.progress.step == trainer.progress.step
    torch.testing.assert_close(again.model.state_dict(), trainer.model.state_dict(), rtol=0, atol=0)


def test_behaviours_that_act_on_the_backbone_are_refused() -> None:
    class Adversarial:
        @hookimpl
        def backward_ended(self, compute_loss: Any) -> None: ...

    class Masking:
        @hookimpl
        def forward_starting(self, batch: Any) -> None: ...

    class Clipping:
        @hookimpl
        def step_ending(self, model: Any) -> None: ...

    for behaviour, refused in ((Adversarial(), True), (Masking(), True), (Clipping(), False)):
        manager = create_behaviour_manager(HOST, ())
        manager.register(behaviour, name="mine")
        if refused:
            with pytest.raises(ConfigError, match=r"trainer\.behaviours=mine .* backbone\.freeze=true"):
                refuse_behaviours(manager)
        else:
            refuse_behaviours(manager)


# --- many heads at once

SETTINGS = [
    HeadSettings(CONFIG, seed=3),
    HeadSettings(replace(CONFIG, learning_rate=1e-3, weight_decay=0.3), seed=3),
    HeadSettings(replace(CONFIG, optimizer="sgd", schedule="cosine", warmup=0.5, clip=None), seed=3),
    HeadSettings(replace(CONFIG, clip=0.05), seed=4),
    HeadSettings(replace(CONFIG, learning_rate=1e-2), seed=3, build_head=deep_head),
    HeadSettings(CONFIG, seed=3, build_head=deep_head),
    HeadSettings(replace(CONFIG, batch_size=5, max_steps=9), seed=4),
]


@pytest.fixture(scope="module")
def read() -> list[Features]:
    return FrozenReader(make_backbone(), make_devices(), None).read(make_features())


@pytest.mark.parametrize("budget", [4096, 40])
def test_heads_trained_together_are_those_trained_alone(budget: int, read: list[Features], tmp_path: Path) -> None:
    devices, task = make_devices(token_budget=budget), DroppingParity()
    examples = [[one] for one in read]
    together = train_heads(task, examples, SETTINGS, devices, HOST)
    assert [one.settings for one in together] == SETTINGS
    for one in together:
        (alone,) = train_heads(task, examples, [one.settings], devices, HOST)
        assert one.losses == pytest.approx(alone.losses, rel=1e-5)
        torch.testing.assert_close(one.head.state_dict(), alone.head.state_dict(), rtol=1e-4, atol=1e-6)
    assert len({tuple(one.losses) for one in together}) == len(together), "their settings differ, and so do they"


@pytest.mark.parametrize("budget", [4096, 40])
def test_a_head_is_that_of_a_run(budget: int, read: list[Features], tmp_path: Path) -> None:
    devices = make_devices(token_budget=budget)
    trainer = make_trainer(tmp_path, read, make_backbone(), devices)
    with counted_passes() as passes:
        trainer.fit()
        (head,) = train_heads(DroppingParity(), [[one] for one in read], [HeadSettings(CONFIG, seed=3)], devices, HOST)
    assert not passes
    expected = {name.removeprefix("parity."): tensor for name, tensor in trainer.model.heads.state_dict().items()}
    torch.testing.assert_close(head.head.state_dict(), expected, rtol=1e-5, atol=1e-7)
    with_head = TaskModel(make_backbone(), {"parity": head.head})
    assert score(with_head, read, devices).scores == score(trainer.model, read, devices).scores


def test_a_head_that_diverges_leaves_the_others_alone(read: list[Features]) -> None:
    wild = HeadSettings(replace(CONFIG, learning_rate=1e38, optimizer="sgd", clip=None), seed=3)
    examples, devices = [[one] for one in read], make_devices()
    calm, diverged = train_heads(DroppingParity(), examples, [SETTINGS[0], wild], devices, HOST)
    (alone,) = train_heads(DroppingParity(), examples, SETTINGS[:1], devices, HOST)
    assert not torch.tensor(diverged.losses).isfinite().all()
    assert calm.losses == pytest.approx(alone.losses, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 0}, "Head 2: trainer.batch_size=0: must be greater than 0."),
        ({"learning_rate": -1.0}, "Head 2: trainer.learning_rate=-1.0: must be greater than 0"),
        ({"max_steps": 1.5}, "Head 2: trainer.max_steps=1.5: "),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_loaded(changes: dict[str, Any], said: str) -> None:
    wrong = [SETTINGS[0], HeadSettings(replace(CONFIG, **changes), seed=3)]
    config = vertebra.configure(HOST, task="ner")
    with mock.patch("vertebra.runs.probe.prepare", side_effect=AssertionError):
        for refused in (
            lambda: vertebra.probe(config, wrong, HOST),
            lambda: train_heads(DroppingParity(), [], wrong, make_devices(), HOST),
        ):
            with pytest.raises(ConfigError) as error:
                refused()
            assert str(error.value).startswith(said) and "\n" not in str(error.value)


def test_features_that_nobody_read_are_refused() -> None:
    with pytest.raises(RunError, match="FrozenReader"):
        train_heads(DroppingParity(), [[one] for one in make_features()], SETTINGS, make_devices(), HOST)


def test_a_batch_that_was_read_in_part_asks_the_backbone(read: list[Features]) -> None:
    assert pack(read[:3], lambda _: None).hidden_PD is not None
    assert pack([*read[:2], replace(read[2], hidden=None)], lambda _: None).hidden_PD is None
