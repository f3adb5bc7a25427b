"""Processes that share out the weights: they learn what one process learns, and leave what one process reads."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

import vertebra
from process_runs import LONG, NO_DROPOUT, SMALL, TWO, TWO_SHARDED, UNEVEN, lines, message, read, until
from saved_backbone import make_base
from vertebra.cli.main import main
from vertebra.config.document import to_document
from vertebra.config.options import configure
from vertebra.config.schema import GPUConfig
from vertebra.engine import sharded_checkpoints
from vertebra.engine.devices import set_up
from vertebra.engine.sharded_checkpoints import ShardedCheckpoints, Shards
from vertebra.engine.token_budget import PieceTooLargeError, TokenBudget
from vertebra.errors import ConfigError, RunError
from vertebra.runs.execute import resume
from vertebra.runs.folder import RunFolder
from vertebra.tasks.features import Features

# Some steps are cut into more pieces for one process than for the other, and the last of an epoch has one example.
PIECES = ["gpu.token_budget=40", "data.limit=10", "trainer.max_steps=6", "backbone.gradient_checkpointing=true"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted((folder / "model").rglob("*.safetensors"))
    return {f"{file.name}/{name}": one for file in files for name, one in load_file(file).items()}


def require_equal_runs(one: Path, other: Path, rel: float = 1e-4) -> None:
    """Require the same losses, scores and predictions, and final models that one process reads and that are the same."""
    logs = [lines(folder, "log.jsonl") for folder in (one, other)]
    assert len(logs[0]) == len(logs[1]) > 1
    for first, second in zip(*logs, strict=True):
        for name in ("step", "loss", "learning_rate", "gradient_norm"):
            assert second[name] == pytest.approx(first[name], rel=rel)
    for first, second in zip(*(lines(folder, "evaluations.jsonl") for folder in (one, other)), strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=rel)
        assert second["scores"] == pytest.approx(first["scores"], abs=1e-6)
    expected, found = weights(one), weights(other)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(learnt(name, found[name]), learnt(name, tensor), rtol=1e-4, atol=1e-4)
    for name in ("config.json", "tokenizer.json"):
        assert (other / "model" / "backbone" / name).read_bytes() == (one / "model" / "backbone" / name).read_bytes()


def learnt(name: str, tensor: Tensor) -> Tensor:
    """Return what of a tensor has a gradient: softmax minds no bias of all keys, nor one of all places where an answer may

    begin or end, and AdamW makes the rounding of nothing large.
    """
    if name.startswith("heads.safetensors/qa") and name.endswith("bias"):
        return tensor[:0]
    if not name.endswith("c_attn.bias"):
        return tensor
    query, _, value = tensor.chunk(3)
    return torch.cat([query, value])


def trained(folder: Path, *arguments: str) -> Path:
    assert main(["train", *arguments, f"hydra.run.dir={folder}"]) == 0
    return folder


def started(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vertebra", *command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def test_shards_learn_what_one_process_learns_and_one_process_reads_them(tmp_path: Path) -> None:
    common = ["task=ner", *SMALL, *UNEVEN, *PIECES]
    one = trained(tmp_path / "one", *common, "gpu=cpu")
    two = trained(tmp_path / "two", *common, *TWO_SHARDED)
    require_equal_runs(one, two)
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    texts = ["Marie Curie was born in Warsaw.", "The bank of England is in London."]
    alone, together = (vertebra.load(folder, device="cpu").predict(texts) for folder in (one, two))
    assert together == alone


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "more"),
    [
        ("lm", []),  # its head's matrix is the embedding
        (
            "sentiment",
            ["task.dropout=0", "trainer.clip=null", "trainer.l2sp=0.1"],
        ),
        ("qa", ["task.dropout=0", "backbone.packing=padded"]),
        ("recommendation", ["task.dropout=0"]),  # what it draws depends on the process, not on who holds the weights
    ],
)
def test_every_kind_of_head_is_shared_out(task: str, more: list[str], tmp_path: Path) -> None:
    small = [one for one in SMALL if not one.startswith("task.")]
    if "trainer.l2sp=0.1" in more:  # what is to be pulled back has learnt something
        learnt_before = make_base(tmp_path / "learnt")
        small = [one for one in small if not one.startswith("backbone.")]
        small += ["backbone=hf", f"backbone.path={learnt_before}", f"backbone.config={{{NO_DROPOUT}}}"]
    common = [f"task={task}", *small, *UNEVEN, *more, "trainer.max_steps=5"]
    require_equal_runs(trained(tmp_path / "ddp", *common, *TWO), trained(tmp_path / "fsdp", *common, *TWO_SHARDED))


# --- checkpoints


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dropout", [True, False])
def test_a_killed_run_goes_on_from_the_shards_in_two_processes_or_in_one(dropout: bool, tmp_path: Path) -> None:
    small = [one for one in SMALL if not (dropout and one.startswith(("task.", "backbone.")))]
    model = ["backbone.init=random", "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}"] if dropout else []
    steps = ["data.limit=12", "trainer.batch_size=3", "trainer.epochs=10", "trainer.learning_rate=1e-3"]
    saves = ["trainer.evaluate_every=20", "trainer.checkpoint_every=5"]
    arguments = ["task=ner", *small, *model, *steps, *saves, *TWO_SHARDED]
    whole, killed, alone = tmp_path / "whole", tmp_path / "killed", tmp_path / "alone"
    trained(whole, *arguments)

    process = started("train", *arguments, f"hydra.run.dir={killed}")
    until(lambda: list(killed.glob("checkpoints/step-0000001*")), process)
    children = psutil.Process(process.pid).children()
    next(child for child in children if child.environ()["RANK"] == "1").kill()
    (said,) = message(process)
    assert "Process 2 of 2 was killed by SIGKILL" in said and "vertebra resume" in said
    (newest,) = sorted(killed.glob("checkpoints/step-*"))[-1:]
    names = {path.name for path in newest.iterdir()}
    parts = {f"{kind}-0000{rank}-of-00002.safetensors" for kind in ("weights", "optimizer") for rank in range(2)}
    assert names == parts | {"optimizer.json", "state.json", "manifest.json"}
    shutil.copytree(killed, alone)

    assert main(["resume", str(killed)]) == 0
    assert read(killed, "metrics.json") == read(whole, "metrics.json")
    for name, tensor in weights(whole).items():
        assert torch.equal(weights(killed)[name], tensor)
    assert lines(killed, "log.jsonl") == lines(whole, "log.jsonl")

    assert main(["resume", str(alone), "--processes", "1"]) == 0
    assert read(alone, "run.json")["status"] == "finished"
    if not dropout:  # what is dropped depends on the process that computes it
        require_equal_runs(whole, alone)


@pytest.mark.slow
def test_a_damaged_shard_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ["task=ner", *SMALL, *LONG, "trainer.keep_checkpoints=9", *TWO_SHARDED, f"hydra.run.dir={folder}"]
    process = started("train", *arguments)
    until(lambda: len(list(folder.glob("checkpoints/step-*"))) > 2, process)
    process.terminate()
    message(process)
    *_, before, last = sorted(folder.glob("checkpoints/step-*"))
    file = last / "optimizer-00001-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")

    again = started("resume", str(folder))
    until(lambda: not last.exists() or lines(folder, "log.jsonl")[-1]["step"] < int(last.name[5:]), again)
    until(lambda: lines(folder, "log.jsonl")[-1]["step"] > int(before.name[5:]), again)
    again.terminate()
    message(again)
    steps = [line["step"] for line in lines(folder, "log.jsonl")]
    assert steps == list(range(1, len(steps) + 1))


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_rows_of_any_number_of_processes_are_one_tensor(data: st.DataObject) -> None:
    rows, processes = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 5))
    tensor = torch.arange(rows * 3, dtype=torch.float32).reshape(rows, 3)
    with TemporaryDirectory() as folder:
        # As FSDP2 shares rows out: some processes may get none.
        for rank, part in enumerate([*tensor.chunk(processes), *[tensor[:0]] * processes][:processes]):
            own = {"one": part.contiguous()} | ({"number": torch.tensor(7.0)} if rank == 0 else {})
            save_file(own, f"{folder}/weights-{rank:05d}-of-{processes:05d}.safetensors")
        shards = Shards(Path(folder), "weights")
        assert shards.names == {"one", "number"} and shards.shape("one") == (rows, 3)
        assert torch.equal(shards.read("one", like=torch.empty(rows, 3)), tensor)
        assert float(shards.read("number")) == 7.0
        with pytest.raises(ValueError, match=re.escape(f"'one' is [{rows}, 3], and should be [{rows + 1}, 3]")):
            shards.read("one", like=torch.empty(rows + 1, 3))


def test_a_full_disk_leaves_the_checkpoint_before_which_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = ShardedCheckpoints(tmp_path, 2, set_up(GPUConfig(device="cpu", threads=1, shard=True)))

    def trained_once() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.8, 0.9))
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        return model, optimizer

    model, optimizer = trained_once()
    checkpoints.save(1, model, optimizer, {"step": 1})
    with monkeypatch.context() as patched:
        patched.setattr(sharded_checkpoints, "save_file", full_disk)
        with pytest.raises(RunError, match=r"No space left on device. What was written before is intact"):
            checkpoints.save(2, model, optimizer, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]

    again, fresh = trained_once()
    assert checkpoints.load_newest(again, fresh) == {"step": 1}
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert str(fresh.state_dict()) == str(optimizer.state_dict())
    other = torch.nn.Sequential(torch.nn.Linear(3, 2))
    with pytest.raises(RunError, match="cannot be used by this run: it has not the same parameters"):
        checkpoints.load_newest(other, torch.optim.AdamW(other.parameters()))


def full_disk(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_run_has_at_least_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(tmp_path), "--processes", "0"]) == 2
    assert "--processes 0: a run has at least one process" in capsys.readouterr().err


def test_only_shared_weights_go_on_in_another_number_of_processes(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    run.write_config(to_document(configure(task="ner")))
    run.update_state(status="stopped")
    with pytest.raises(RunError, match=r"goes on in 1 process\(es\), as it began: only checkpoints of shared weights"):
        resume(run.path, processes=2)


# --- what needs whole weights is refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"adapter": "lora"}, "gpu.shard=true does not go with adapter=lora"),
        ({"backbone": {"freeze": True}}, "gpu.shard=true does not go with adapter=frozen"),
        ({"backbone": {"dtype": "bfloat16"}}, "Use gpu.precision=bf16"),
        ({"trainer": {"optimizer": "muon"}}, "gpu.shard=true does not go with trainer.optimizer=muon"),
        ({"trainer": {"optimizer": "sgd"}}, "gpu.shard=true does not go with trainer.optimizer=sgd"),
        ({"task": "summarization"}, "gpu.shard=true does not go with task=summarization, which writes texts"),
    ],
)
def test_what_needs_whole_weights_is_refused_before_anything_is_loaded(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        configure(**{"task": "ner", "gpu": "fsdp", **changes})


def test_memory_that_runs_out_among_processes_that_wait_for_each_other_ends_the_run() -> None:
    budget = TokenBudget(64, fixed=True)
    piece = [Features(np.arange(5)), Features(np.arange(3))]

    def fail() -> None:
        raise PieceTooLargeError(piece)

    with pytest.raises(RunError, match=r"The 8 tokens of row 1 .*smaller gpu\.token_budget than 64"):
        budget.until_it_fits(fail, lambda: None, lambda _: "row 1")
