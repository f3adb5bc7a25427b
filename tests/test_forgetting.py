"""A backbone that goes on to learn a second task: what it loses of the first, and a pull to where it began."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from process_runs import read, until
from vertebra.cli.main import main
from vertebra.config.options import configure
from vertebra.engine.starting_point import StartingPoint
from vertebra.errors import ConfigError
from vertebra.host.manager import create_host
from vertebra.runs.folder import RunFolder
from vertebra.runs.forgetting import _went_on, on_backbone_of
from vertebra.runs.load import load

SMALL = [
    "gpu=cpu",
    "gpu.threads=1",
    "gpu.precision=fp32",
    "data.limit=60",
    "trainer.trackers=[]",
    "trainer.baselines=false",
]
STEPS = ["trainer.max_steps=20", "trainer.learning_rate=5e-3", "trainer.evaluate_every=20"]
FIRST = [
    "task=ner",
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}",
    *SMALL,
    "trainer.max_steps=8",
]


def trained(folder: Path, *arguments: str) -> Path:
    assert main(["train", *arguments, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("first") / "run", *FIRST)


def second(folder: Path, first: Path, *more: str) -> Path:
    backbone = ["backbone=hf", f"backbone.path={first / 'model' / 'backbone'}"]
    return trained(folder, "task=sentiment", *backbone, *SMALL, *STEPS, *more)


def distance(run: Path, first: Path) -> float:
    """Return how far the backbone of a run is from that of the first one."""
    weights = [load_file(one / "model" / "backbone" / "model.safetensors") for one in (run, first)]
    return float(sum((weights[0][name] - tensor).square().sum() for name, tensor in weights[1].items()) ** 0.5)


@pytest.fixture(scope="module")
def later(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return second(tmp_path_factory.mktemp("later") / "run", first)


def changed(run: Path, folder: Path, name: str, old: str, new: str) -> Path:
    """Return a copy of a run in which a text of a file is another."""
    shutil.copytree(run, folder)
    text = (folder / name).read_text(encoding="utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new), encoding="utf-8")
    return folder


def test_what_a_second_task_makes_the_first_forget_is_reported(
    first: Path, later: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    capsys.readouterr()
    with caplog.at_level(logging.WARNING):
        assert main(["forgetting", str(first), str(later), "--json", "--device", "cpu"]) == 0
    assert not caplog.messages
    found = json.loads(capsys.readouterr().out)
    assert found == read(later, "forgetting.json")
    before = read(first, "metrics.json")["test"]
    assert {one["metric"] for one in found["metrics"]} == set(before)
    for one in found["metrics"]:
        assert one["scores"][0] == pytest.approx(before[one["metric"]], abs=1e-9)
        assert one["difference"] == pytest.approx(one["scores"][1] - one["scores"][0])
        assert one["interval"][0] <= one["difference"] <= one["interval"][1]
    assert any(one["difference"] for one in found["metrics"])

    # A backbone forgets nothing beside itself, and one with other tokens was never this one.
    assert main(["forgetting", str(first), str(first), "--device", "cpu"]) == 0
    assert all(one["difference"] == 0 for one in read(first, "forgetting.json")["metrics"])
    assert main(["forgetting", str(first), str(tmp_path)]) == 2


def test_runs_that_have_nothing_to_do_with_each_other_are_not_compared(
    first: Path, later: Path, tmp_path: Path, refused: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    # The head alone was trained, on random weights, which such a run keeps.
    frozen = changed(later, tmp_path / "frozen", "run.json", '"base": null', f'"base": "{"0" * 64}"')
    assert "trained an adapter, or nothing of the backbone" in refused("forgetting", first, frozen)
    damaged = changed(later, tmp_path / "damaged", "model/backbone/config.json", '"n_embd": 32', '"n_embd": 64')
    assert f"The model in '{damaged / 'model'}' is damaged" in refused("forgetting", first, damaged)
    grown = changed(first, tmp_path / "grown", "config.yaml", "limit: 60", "limit: 70")
    assert f"The data of '{grown}' have changed since it was trained" in refused("forgetting", grown, later)

    began = read(later, "run.json")["backbone"]["fingerprint"]
    other = changed(later, tmp_path / "other", "run.json", began, began[::-1])
    with caplog.at_level(logging.WARNING):
        assert main(["forgetting", str(first), str(other), "--device", "cpu"]) == 0
    assert caplog.messages == [
        f"'{other}' did not begin with the backbone that '{first}' left: what was learnt between them counts as well."
    ]


def test_a_later_backbone_is_known_and_used_in_the_form_of_each_run(first: Path, later: Path, tmp_path: Path) -> None:
    """One that was trained in another type began with the same backbone; the first run's head reads its own type."""
    host = create_host()
    half = changed(first, tmp_path / "half", "config.yaml", "dtype: auto", "dtype: bfloat16")
    loaded = load(half, device="cpu", host=host)
    begun = loaded.model.backbone.info.fingerprint
    own = read(later, "run.json")["backbone"]["fingerprint"]
    assert begun != own
    for folder, run, expected in ((later, loaded, True), (half, load(first, device="cpu", host=host), False)):
        again = on_backbone_of(RunFolder(folder), run, host)
        assert again.model.backbone.model.dtype == run.model.backbone.model.dtype
        assert _went_on(RunFolder(folder), run, host) is expected


def test_the_pull_is_the_gradient_of_the_penalty() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    model[1].bias.requires_grad_(False)
    start = StartingPoint(model, 0.3)  # type: ignore[arg-type]  # all that it needs are parameters
    first = [one.detach().clone() for one in model.parameters()]
    with torch.no_grad():
        for one in model.parameters():
            one.add_(torch.randn_like(one))
    trained = [one for one in model.parameters() if one.requires_grad]
    inputs = torch.randn(5, 3)
    penalty = sum(((one - its) ** 2).sum() for one, its in zip(model.parameters(), first, strict=True))
    expected = torch.autograd.grad(model[0](inputs).square().mean() + 0.15 * penalty, trained)

    model[0](inputs).square().mean().backward()  # the norm has no gradient of its own
    start.add_gradients()
    for parameter, gradient in zip(trained, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert model[1].bias.grad is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_pull_keeps_the_backbone_near_also_when_the_run_is_killed_and_resumed(first: Path, tmp_path: Path) -> None:
    free = second(tmp_path / "free", first)
    pulled = ["trainer.l2sp=0.1", "trainer.checkpoint_every=2", "trainer.max_steps=40"]
    held = second(tmp_path / "held", first, *pulled)
    assert 0 < distance(held, first) < distance(free, first)

    killed = tmp_path / "killed"
    backbone = ["backbone=hf", f"backbone.path={first / 'model' / 'backbone'}"]
    command = [sys.executable, "-m", "vertebra", "train", "task=sentiment", *backbone, *SMALL, *STEPS, *pulled]
    quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    process = subprocess.Popen([*command, f"hydra.run.dir={killed}"], text=True, **quiet)
    until(lambda: len(list(killed.glob("checkpoints/step-*"))) > 1, process)
    process.kill()
    process.communicate()
    assert main(["resume", str(killed)]) == 0
    assert distance(killed, held) == 0


@pytest.mark.parametrize(
    "changes", [{"adapter": "lora"}, {"backbone": {"freeze": True}}, {"backbone": {"init": "random"}}]
)
def test_a_pull_needs_a_backbone_that_moves_from_what_it_has_learnt(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=re.escape("trainer.l2sp=0.1 ")):
        configure(**{"task": "ner", "trainer": {"l2sp": 0.1}, **changes})
