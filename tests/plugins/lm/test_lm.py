"""Language modelling: whole small runs, and numbers against transformers' own."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

import vertebra
from vertebra.cli.main import main
from vertebra.config.compose import compose
from vertebra.config.corpus_data import INSTEAD
from vertebra.config.schema import BackboneConfig
from vertebra.data.corpus import READS, Corpus
from vertebra.data.windows import Readings, Windows
from vertebra.engine.backbone import Backbone
from vertebra.engine.frozen import FrozenReader
from vertebra.engine.packing import PackedBatch
from vertebra.engine.sources import nano
from vertebra.errors import ConfigError
from vertebra_lm.config import LanguageModellingConfig, MaskedNextTokenConfig
from vertebra_lm.masked import MaskedNextToken
from vertebra_lm.task import LanguageModelling

TINY = [
    "backbone.init=random",
    "backbone.config={n_layer: 1, n_embd: 32, n_head: 2}",
    "gpu=cpu",
    "gpu.threads=1",
    "gpu.precision=fp32",
]
SAMPLE = ["data.options={train: 60, valid: 6, test: 6}", "task.window=64", "trainer.batch_size=8"]


def train(folder: Path, task: str, *settings: str) -> Path:
    overrides = [f"task={task}", *TINY, *SAMPLE, "trainer.learning_rate=1e-2", "trainer.trackers=[]", *settings]
    assert main(["train", *overrides, f"hydra.run.dir='{folder}'"]) == 0
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERTEBRA_CACHE", str(tmp_path_factory.mktemp("cache")))
        return train(tmp_path_factory.mktemp("lm") / "run", "lm", "trainer.epochs=4")


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


def read_lines(run: Path, name: str) -> list[Any]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def test_a_model_learns_more_than_how_frequent_tokens_are(run: Path) -> None:
    scores, baseline = read(run, "metrics.json")["test"], read(run, "baselines.json")["unigram"]["scores"]["test"]
    assert scores["bits_per_byte"] < baseline["bits_per_byte"]
    assert scores["token_hits"] > baseline["token_hits"]


def test_bits_are_those_of_transformers_on_the_same_windows(run: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), str(tmp_path / "model")]) == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    from vertebra_lm.sample import read as make

    texts = [row["text"] for row in make(vertebra.DataConfig(options={"train": 60, "valid": 6, "test": 6}))["test"]]
    tokens = [token for text in texts for token in [tokenizer.eos_token_id, *tokenizer(text)["input_ids"]]]
    tokens.append(tokenizer.eos_token_id)
    nats = 0.0
    for start in range(0, len(tokens) - 1, 64):
        stop = min(start + 64, len(tokens) - 1)
        begins = [start, *(n for n in range(start + 1, stop) if tokens[n] == tokenizer.eos_token_id), stop]
        for first, last in pairwise(begins):
            with torch.no_grad():
                logits = model(torch.tensor([tokens[first:last]])).logits[0]
            nats += torch.nn.functional.cross_entropy(
                logits, torch.tensor(tokens[first + 1 : last + 1]), reduction="sum"
            ).item()
    expected = nats / math.log(2) / sum(len(text.encode()) for text in texts)
    assert read(run, "metrics.json")["test"]["bits_per_byte"] == pytest.approx(expected, rel=1e-5)


def test_evaluate_finds_the_scores_again_and_predict_weighs_a_text(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--split", "test", "--output", str(run.parent / "again")]) == 0
    again = read(run.parent / "again", "metrics.json")["test"]
    assert again == pytest.approx(read(run, "metrics.json")["test"], rel=1e-6)
    usual, odd = vertebra.load(run).predict(["Anna bought a red kite.", "kite red Anna. a bought"])
    assert usual["nats"] / usual["tokens"] < odd["nats"] / odd["tokens"]
    capsys.readouterr()


def test_every_token_of_a_text_longer_than_the_context_is_weighed(run: Path) -> None:
    loaded = vertebra.load(run)
    tokenizer, context = loaded.model.backbone.tokenizer, loaded.model.backbone.info.context
    text = "Anna bought a red kite and lost it at the harbour. " * 90
    ids = tokenizer(text)["input_ids"]
    assert len(ids) > 2 * context
    (found,) = loaded.predict([text])
    assert found["tokens"] == len(ids) + 1, "those of the text, and the one that ends it"
    # Each token is read in the window in which it is farthest from the edges: by hand, with transformers' own model.
    tokens, stride = [tokenizer.eos_token_id, *ids], context - context // 4
    starts = [*range(0, len(tokens) - context, stride), len(tokens) - context]
    edges = [0, *((left + context + right) // 2 for left, right in pairwise(starts)), len(tokens)]
    model = AutoModelForCausalLM.from_pretrained(run / "model" / "backbone").eval()
    following = torch.tensor([*ids, tokenizer.eos_token_id])
    nats = 0.0
    for start, first, last in zip(starts, edges, edges[1:], strict=False):
        with torch.no_grad():
            logits = model(torch.tensor([tokens[start : start + context]])).logits[0, first - start : last - start]
        nats += torch.nn.functional.cross_entropy(logits, following[first:last], reduction="sum").item()
    assert found["nats"] == pytest.approx(nats, rel=1e-5)


def test_a_run_that_was_stopped_in_the_middle_of_an_epoch_ends_as_it_would_have(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", "lm", "trainer.max_steps=8", "trainer.checkpoint_every=2")

    class Stop:
        @vertebra.hookimpl
        def step_ended(self, step: Any) -> None:
            if step.step == 5:
                raise KeyboardInterrupt

    host = vertebra.create_host()
    host.manager.register(Stop())
    from vertebra.config.compose import compose
    from vertebra.runs.execute import resume
    from vertebra.runs.execute import train as start

    folder = tmp_path / "stopped"
    overrides = ["task=lm", *TINY, *SAMPLE, "trainer.learning_rate=1e-2", "trainer.trackers=[]", "trainer.max_steps=8"]
    config = compose(
        [*overrides, "trainer.checkpoint_every=2", f"hydra.run.dir='{folder}'"], vertebra.create_host()
    ).config
    with pytest.raises(KeyboardInterrupt):
        start(config, folder, host)
    resume(folder)
    assert read(folder, "run.json")["weights"] == read(whole, "run.json")["weights"]
    assert read(folder, "metrics.json") == read(whole, "metrics.json")


@pytest.mark.parametrize("task", ["lm", "mntp"])
def test_a_frozen_backbone_reads_the_training_corpus_in_the_steps_alone(task: str, tmp_path: Path) -> None:
    tokens = {"training": 0, "reading": 0}
    forward, reading = Backbone.forward, FrozenReader.read

    def counting(self: Backbone, batch: PackedBatch) -> Tensor:
        assert not any(module.training for module in self.modules())
        tokens["reading" if batch.targets is None else "training"] += batch.n_tokens
        return forward(self, batch)

    titles = []

    def told(self: FrozenReader, features: Any, title: str = "", **how: Any) -> Any:
        titles.append(title)
        return reading(self, features, title, **how)

    with patch.object(Backbone, "forward", counting), patch.object(FrozenReader, "read", told):
        folder = train(tmp_path / "run", task, "trainer.max_steps=2", "backbone.freeze=true")
    assert titles == ["reading valid", "reading test"]
    assert read(folder, "run.json")["status"] == "finished"
    assert 0 < tokens["training"] <= 2 * 8 * 64, "two steps of 8 windows, and evaluations make no passes of their own"
    assert tokens["reading"] > 0


def test_masked_tokens_are_learnt_in_both_directions(tmp_path: Path) -> None:
    run = train(tmp_path / "mntp", "mntp", "trainer.epochs=2")
    assert read(run, "run.json")["backbone"]["attention"] == "bidirectional"
    losses = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    assert main(["evaluate", str(run), "--output", str(tmp_path / "again")]) == 0
    assert read(tmp_path / "again", "metrics.json") == read(run, "metrics.json")


def test_masks_are_drawn_anew_in_training_and_hide_what_is_predicted() -> None:
    task = MaskedNextToken(MaskedNextTokenConfig(masked=0.25))
    task.read_tokenizer(AutoTokenizer.from_pretrained(nano(BackboneConfig()).location))
    ids = np.arange(100, 140, dtype=np.int32)
    piece = task.piece(ids, ids + 1, 7)
    assert task.piece(ids, ids + 1, 7).positions.tolist() == piece.positions.tolist()
    first, again, other = (task.complete([piece], seed)[0] for seed in (1, 1, 2))
    assert first.positions.tolist() == again.positions.tolist() != other.positions.tolist()
    for one in (piece, first, other):
        assert one.n_targets == 10 and set(one.input_ids[one.positions + 1]) == {task.masking.token}
        assert one.target.tolist() == ids[one.positions + 1].tolist()
        untouched = np.delete(one.input_ids, one.positions + 1)
        assert untouched.tolist() == np.delete(ids, one.positions + 1).tolist()
    alone = task.piece(ids[:1], ids[1:2], 0)
    assert alone.n_targets == 0 and len(alone.positions) == 0


def test_weights_that_write_learn_to_see_ahead_besides(tmp_path: Path) -> None:
    """Each window read causally as often: with masked ones besides, masked tokens are guessed where they were not."""
    plain = train(tmp_path / "plain", "lm", "trainer.epochs=6")
    hybrid = train(tmp_path / "hybrid", "lm", "trainer.epochs=6", "task.both_ways=1")
    assert read(hybrid, "run.json")["backbone"]["attention"] == "causal"
    noted = [read(run, "model/backbone/config.json").get("vertebra_attention") for run in (plain, hybrid)]
    assert noted == [None, "either"], "so that tasks may read the second one as suits them"
    steps = [read_lines(run, "evaluations.jsonl")[-1]["step"] for run in (plain, hybrid)]
    assert steps == [48, 96], "each window is read causally as often, and both ways besides"
    causal = [read(run, "metrics.json")["test"]["bits_per_token"] for run in (plain, hybrid)]
    masked = []
    for run in (plain, hybrid):
        loaded = [
            "backbone=hf",
            f"backbone.path={run / 'model' / 'backbone'}",
            "backbone.init=pretrained",
            "trainer.max_steps=1",
        ]
        seen = train(run.parent / f"{run.name}-masked", "mntp", *loaded, "trainer.learning_rate=1e-9")
        masked.append(read(seen, "metrics.json")["test"]["bits_per_token"])
    assert masked[1] < masked[0] - 0.5
    assert causal[1] < causal[0] + 0.5


def test_an_epoch_has_each_window_once_causally_and_as_often_as_asked_both_ways() -> None:
    tokenizer = AutoTokenizer.from_pretrained(nano(BackboneConfig()).location)
    corpus = Corpus(np.asarray([0, *range(5, 100), 0, *range(5, 200), 0], dtype=np.uint16), 2, 1, "")
    task = LanguageModelling(LanguageModellingConfig(window=64, both_ways=2, masked=0.25))
    task.read_tokenizer(tokenizer)
    windows = [Windows(corpus, 64, 0, make, slice(None)) for make in task.training_pieces()]
    examples = Readings(windows)
    assert len(examples) == 3 * len(windows[0])
    for number, pieces in enumerate(examples):
        causal = windows[0][number % len(windows[0])]
        assert [one.example for one in pieces] == [one.example for one in causal]
        if number < len(windows[0]):
            assert all(one.attention is None for one in pieces)
            continue
        again = task.complete(pieces, seed=number)
        for one, before, plain in zip(again, pieces, causal, strict=True):
            assert one.attention == before.attention == "bidirectional"
            assert one.n_targets == before.n_targets == max(1, round(0.25 * len(plain)))
            whole = one.input_ids.copy()
            whole[one.positions + 1] = one.target
            np.testing.assert_array_equal(whole, plain.input_ids)
    causal = windows[0][0]
    assert task.complete(causal, seed=1) is causal, "nothing is masked in what is read causally"


def test_a_mask_of_several_tokens_is_refused() -> None:
    task = MaskedNextToken(replace(MaskedNextTokenConfig(), mask_token="no single token"))
    with pytest.raises(ConfigError, match=r"task\.mask_token='no single token' is \d+ tokens"):
        task.read_tokenizer(AutoTokenizer.from_pretrained(nano(BackboneConfig()).location))


def test_a_window_over_the_context_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert main(["train", "task=lm", *TINY, *SAMPLE, "task.window=5000", f"hydra.run.dir='{folder}'"]) == 2
    assert "task.window=5000 is more than the backbone's context of 512 tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "data.columns.text=body",
            "data.columns.text is for tasks that read rows, and task=lm .*: set task.column=body.",
        ),
        ("data.columns.tokens=1", "data.columns.tokens .* say by task.column which column holds the text."),
        ("data.group_by=book", "data.group_by .* each row is a document of its own."),
        ("data.split_by=text", "data.split_by .* the last windows"),
        ("data.split_seed=5", "data.split_seed .* the last windows"),
        ("data.test_fraction=0.3", r"data.test_fraction .* name a file by data.splits.test"),
        ("data.too_long=error", "data.too_long .* windows of task.window tokens."),
    ],
)
def test_settings_of_rows_are_refused(setting: str, said: str, tmp_path: Path) -> None:
    host = vertebra.create_host()
    corpus = ["data=lm/corpus", f"data.path={tmp_path}"]
    with pytest.raises(ConfigError, match=said) as error:
        compose(["task=lm", *corpus, setting], host)
    assert "\n" not in str(error.value)
    assert compose(["task=lm", *corpus, "data.limit=3", "data.valid_fraction=0.3", "data.cache=false"], host)


def test_every_setting_of_the_data_is_read_or_refused() -> None:
    assert READS | INSTEAD.keys() == {one.name for one in fields(vertebra.DataConfig)}
    assert not READS & INSTEAD.keys()


def test_your_own_files_without_validation_give_their_last_windows(tmp_path: Path) -> None:
    file = tmp_path / "books.txt"
    file.write_text("Once upon a time there was a mill by the river.\n" * 200)
    run = train(
        tmp_path / "run", "lm", "data=lm/corpus", f"data.path='{file}'", "data.options={}", "trainer.max_steps=2"
    )
    about = read(run, "data.json")
    assert about["splits"]["valid"]["rows"] == round(0.1 * sum(one["rows"] for one in about["splits"].values()))
    assert any(note.startswith("valid: the last 10%") for note in about["notes"])


def test_inspect_shows_windows_and_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "task=lm", *SAMPLE[:2], "--rows", "1"]) == 0
    shown = capsys.readouterr().out
    assert "bytes a token" in shown and "train-1" in shown


def test_a_baseline_alone_says_where_it_is_computed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", "task=lm"]) == 2
    assert "computed by `vertebra train`" in capsys.readouterr().err


def test_pieces_predict_the_next_token() -> None:
    piece = LanguageModelling().piece(np.asarray([0, 5, 6]), np.asarray([5, 6, 7]), 0)
    assert piece.target.tolist() == [5, 6, 7] and piece.positions.tolist() == [0, 1, 2] and piece.n_targets == 3
