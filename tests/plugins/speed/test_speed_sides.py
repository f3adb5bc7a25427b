"""The sides do the same work: the same numbers, the same tokens counted, the peers' own order of batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from vertebra_speed import workload as work
from vertebra_speed.agreement import compare_training
from vertebra_speed.ceiling import measure_ceiling, operations_a_token
from vertebra_speed.options import VOCABULARY, Data
from vertebra_speed.own.evaluation import VertebraEvaluation
from vertebra_speed.own.train import VertebraTraining
from vertebra_speed.peers.evaluation import EvaluationPeer
from vertebra_speed.peers.generation import GenerationPeer
from vertebra_speed.peers.trainer import SORTED_TOGETHER, TrainerPeer, make_dataset
from vertebra_speed.requests import ANSWER, PROMPT, make_requests
from vertebra_speed.workload import Workload, prepare

BATCH = 4
ROWS = {"train": 64 * BATCH, "valid": 24}
OPINIONS = {"fine": 1, "dull": 0, "warm and wise": 1, "far too long": 0}
THINGS = ("film", "plot", "cast", "story", "song", "joke", "scene that opens it", "end")
TEXTS = [
    f"{start} {thing} , {opinion}\t{label}"
    for thing in THINGS
    for start in ("a", "with a")
    for opinion, label in OPINIONS.items()
]

Make = Callable[..., str]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return a function that prepares a small workload, once for each kind."""
    made: dict[tuple[str, str], str] = {}

    def prepared(family: str = "gpt2", kind: str = "synthetic") -> str:
        if (family, kind) not in made:
            folder = tmp_path_factory.mktemp(f"{family}-{kind}")
            texts = folder / "texts"
            texts.mkdir()
            for split in ("train", "valid"):
                (texts / f"{split}.tsv").write_text("\n".join(TEXTS))
            data = Data("text", str(texts)) if kind == "text" else Data("synthetic", mean_length=9)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(work, "N_SYNTHETIC", ROWS)
                prepare(str(folder), layers=2, width=32, family=family, data=asdict(data), seed=0)
            made[family, kind] = str(folder)
        return made[family, kind]

    return prepared


def peer(folder: str, setting: str, **more: Any) -> TrainerPeer:
    return TrainerPeer(folder, setting, threads=1, device="cpu", batch_size=BATCH, **more)


# --- training


@pytest.mark.parametrize(("family", "kind"), [("gpt2", "synthetic"), ("llama", "synthetic"), ("gpt2", "text")])
def test_both_sides_compute_the_same_loss_and_gradient(make: Make, family: str, kind: str) -> None:
    # The loss of four texts, one number each, is rounded to more than 1e-3 in bf16, on either side.
    found = compare_training(make(family, kind), family, threads=1, device="cpu", batch_size=len(TEXTS))
    assert found["fp32"]["loss"] < 1e-6
    assert found["fp32"]["gradient"] < 1e-5
    assert found["bf16"]["loss"] < 1e-3
    assert 0 < found["bf16"]["gradient"] < 0.05


@pytest.mark.parametrize("setting", ["default", "best"])
def test_trainers_turn_counts_the_real_tokens_of_its_steps(make: Make, setting: str) -> None:
    side = peer(make(), setting)
    before = side.model.base_model.wte.weight.detach().clone()
    turn = side.train(steps=3, warmup=2, seed=5)
    counted = side.pick_batches(3, 2, 5)[2:]
    lengths = [len(one) for one in side.workload.features["train"]]
    assert turn["tokens"] == sum(lengths[place] for batch in counted for place in batch)
    assert turn["steps"] == 3 and turn["wall"] > 0 and turn["cpu"] > 0
    assert not torch.equal(before, side.model.base_model.wte.weight)
    assert side.memory()["resident"] > 2**20


def test_a_frozen_backbone_stays_as_it_is_and_its_head_learns(make: Make) -> None:
    side = peer(make(), "default", frozen=True)
    backbone = {name: p.detach().clone() for name, p in side.model.base_model.named_parameters()}
    head = side.model.classifier.weight.detach().clone()
    side.probe(steps=2, warmup=1, seed=0, rows=8, epochs=3)
    assert all(torch.equal(backbone[name], p) for name, p in side.model.base_model.named_parameters())
    assert not torch.equal(head, side.model.classifier.weight)


def test_our_turn_counts_the_tokens_of_the_plan(make: Make) -> None:
    side = VertebraTraining(make(), "fp32", threads=1, device="cpu", batch_size=BATCH)
    turn = side.train(steps=62, warmup=2, seed=1)  # with the warm-up, one epoch
    lengths = [len(one) for one in side.workload.features["train"]]
    shortest, longest = min(lengths), max(lengths)
    assert sum(lengths) - 2 * BATCH * longest <= turn["tokens"] <= sum(lengths) - 2 * BATCH * shortest
    assert turn["steps"] == 62


@pytest.mark.parametrize("setting", ["default", "best"])
def test_a_turn_over_all_batches_that_are_sorted_together_is_exactly_these(make: Make, setting: str) -> None:
    side = peer(make(), setting)
    picked = side.pick_batches(SORTED_TOGETHER, 1, seed=3)[1:]
    places = [place for batch in picked for place in batch]
    assert len(set(places)) == len(places) == SORTED_TOGETHER * BATCH


def test_few_batches_are_as_long_as_the_many_they_stand_for(make: Make) -> None:
    side = peer(make(), "best")
    lengths = [len(one) for one in side.workload.features["train"]]

    def mean(batches: list[list[int]]) -> float:
        some = [lengths[place] for batch in batches for place in batch]
        return sum(some) / len(some)

    window = SORTED_TOGETHER // 4 * 4
    few, many = mean(side.pick_batches(8, 0, seed=2)), mean(side.pick_batches(window, 0, seed=2))
    assert few == pytest.approx(many, rel=0.1)


def test_batches_of_the_best_setting_hold_rows_of_like_length(make: Make) -> None:
    padding = {}
    for setting in ("default", "best"):
        side = peer(make(), setting)
        lengths = [len(one) for one in side.workload.features["train"]]
        batches = [[lengths[place] for place in batch] for batch in side.pick_batches(40, 0, seed=0)]
        padding[setting] = sum(max(batch) * len(batch) - sum(batch) for batch in batches)
    assert padding["best"] < padding["default"] / 3


# --- evaluation


@pytest.mark.parametrize("kind", ["synthetic", "text"])
def test_all_sides_predict_the_same_labels_in_the_same_order(make: Make, kind: str) -> None:
    folder = make("gpt2", kind)
    common = {"threads": 1, "device": "cpu"}
    default = EvaluationPeer(folder, "default", batch_size=5, **common).labels(ROWS["valid"])["labels"]
    ours = VertebraEvaluation(folder, "fp32", **common).labels(ROWS["valid"])["labels"]
    assert ours == default
    valid = Workload.read(folder).features["valid"][: ROWS["valid"]]
    assert len(ours) == sum(len(one.positions) for one in valid)
    best = EvaluationPeer(folder, "best", batch_size=5, **common).labels(ROWS["valid"])["labels"]
    assert sum(map(int.__eq__, best, default)) >= 0.9 * len(default)


def test_an_evaluation_may_take_more_rows_than_there_are(make: Make) -> None:
    common = {"threads": 1, "device": "cpu"}
    once, twice = (
        VertebraEvaluation(make(), "fp32", **common).evaluate(ROWS["valid"] * n, 0)["tokens"] for n in (1, 2)
    )
    theirs = EvaluationPeer(make(), "default", batch_size=8, **common).evaluate(ROWS["valid"] * 2, 0)["tokens"]
    assert twice == 2 * once == theirs


# --- generation


def test_the_ways_to_generate_give_what_each_request_alone_gives(make: Make) -> None:
    requests = make_requests(Workload.read(make()), 5, seed=0)
    model = AutoModelForCausalLM.from_pretrained(Workload.read(make()).model, dtype=torch.float32).eval()
    alone = []
    for one in requests:
        ids = list(one.prompt)
        for _ in range(one.stop):
            with torch.no_grad():
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        alone.append(ids[len(one.prompt) :])
    for way in ("padded", "continuous"):
        assert GenerationPeer(make(), way, threads=1, device="cpu").tokens(5)["tokens"] == alone
    sorted_side = GenerationPeer(make(), "sorted", threads=1, device="cpu")
    assert [len(one) for one in sorted_side.tokens(5)["tokens"]] == [one.stop for one in requests]
    assert sorted_side.generate(5, seed=0)["tokens"] == sum(one.stop for one in requests)


def test_requests_are_a_function_of_the_seed_and_within_their_bounds(make: Make) -> None:
    workload = Workload.read(make())
    first, again, other = (make_requests(workload, 64, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert all(PROMPT[0] <= len(one.prompt) <= PROMPT[1] and ANSWER[0] <= one.stop <= ANSWER[1] for one in first)


# --- the work


@pytest.mark.parametrize(("setting", "width"), [("default", 128), ("best", 5)])
def test_texts_are_padded_as_run_glue_does_or_to_the_longest(make: Make, setting: str, width: int) -> None:
    side = peer(make("gpt2", "text"), setting)
    features = [replace(side.workload.features["train"][0], input_ids=ids) for ids in ([1, 2], [3, 4, 5, 6, 7])]
    rows = make_dataset(features, side.tokenizer, pad=setting == "default")
    batch = side.collator([rows[0], rows[1]])
    assert batch["input_ids"].shape == (2, width)
    assert batch["labels"].shape == (2,)
    assert ("attention_mask" in batch) == (setting == "default")


def test_operations_are_two_for_each_weight_of_a_linear_layer() -> None:
    model = nn.Sequential(nn.Embedding(100, 8), nn.Linear(8, 4), nn.LayerNorm(4))
    assert operations_a_token(model, layers=0, width=8, lengths=[5]) == 2 * 8 * 4
    attention = operations_a_token(model, layers=3, width=8, lengths=[2, 4]) - 2 * 8 * 4
    assert attention == 2 * 3 * 8 * (4 + 16) / 6


def test_the_ceiling_is_a_rate_in_each_precision() -> None:
    found = measure_ceiling("cpu", threads=1)
    assert found.keys() == {"fp32", "bf16"}
    assert min(found.values()) > 1e8


def test_user_files_become_the_work(tmp_path: Path) -> None:
    sentences = ["Ada B-PER\nslept O\n", "in O\nParis B-LOC\n"] * 10
    (tmp_path / "train.txt").write_text("\n".join(sentences))
    found = prepare(str(tmp_path), 1, 32, "gpt2", asdict(Data("words", str(tmp_path / "train.txt"))), seed=0)
    workload = Workload.read(str(tmp_path))
    assert found["labels"] == 3 and found["data"] == "train.txt"
    assert workload.task.state()["labels"] == ["O", "B-LOC", "B-PER"]
    assert all(len(one.positions) == 2 for split in workload.features.values() for one in split)
    assert max(max(one.input_ids) for one in workload.features["train"]) < VOCABULARY
